"""CMAF: one set of fragments for LL-HLS and DASH, with their playlists and manifests.

Tracks, segments and Periods follow ISO/IEC 23000-19 and 23009-1.
"""
