"""Writes MPEG transport streams for HLS segments (ISO/IEC 13818-1).

The § numbers in this package refer to it.
"""
