"""Writes MPEG transport streams for HLS segments (ISO/IEC 13818-1)."""
