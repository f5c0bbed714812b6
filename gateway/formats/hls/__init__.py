"""Writes HTTP Live Streaming playlists as text (draft-pantos-hls-rfc8216bis)."""
