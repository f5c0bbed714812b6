"""ISO base media files: fragmented MP4 for CMAF (ISO/IEC 14496-12, 14496-15, 23000-19), and recordings."""
