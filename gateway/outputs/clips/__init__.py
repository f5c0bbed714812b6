"""Clips and exports: a time range of a channel's media as one MP4, without encoding."""
