"""ISO base media files: fragmented MP4 as CMAF wants it (ISO/IEC 14496-12, 14496-15, 23000-19)."""
