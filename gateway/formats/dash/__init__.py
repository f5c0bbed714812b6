"""Writes MPEG-DASH manifests as text (ISO/IEC 23009-1)."""
