"""Matroska, as a live sender writes it: an endless Segment of endless Clusters (RFC 9559)."""
