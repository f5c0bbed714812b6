"""Reads and writes captions: CEA-608 and CEA-708 of pictures, WebVTT, SubRip."""
