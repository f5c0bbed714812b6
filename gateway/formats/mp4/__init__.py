"""ISO base media files: fragmented MP4 for CMAF (ISO/IEC 14496-12, 14496-15, 23000-19), and recordings.

The § numbers in this package refer to ISO/IEC 14496-12, unless another name stands before them.
"""
