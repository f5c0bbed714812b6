"""Writes HTTP Live Streaming playlists as text (draft-pantos-hls-rfc8216bis).

The § numbers in this package refer to it, those in `playlist_reader.py` to RFC 8216.
"""
