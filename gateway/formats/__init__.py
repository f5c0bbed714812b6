"""Containers and playlists as pure functions over bytes."""
