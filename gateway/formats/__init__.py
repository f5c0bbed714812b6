"""Reads and writes containers and playlists, as functions and classes over bytes without I/O."""
