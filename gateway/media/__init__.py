"""Tracks, access units, and the codec data that a gateway has to read."""
