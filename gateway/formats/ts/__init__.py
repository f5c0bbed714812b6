"""Writes and reads MPEG transport streams (ISO/IEC 13818-1).

`muxer` writes HLS segments, and `reader` reads them again, strictly. `program_reader` reads what any encoder
sends live. The § numbers in this package refer to the standard.
"""
