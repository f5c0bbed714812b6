"""Playback: answers viewers' requests for each format, and checks whether the viewer may have the media.

Paths are parsed here; media comes from `gateway.packaging`.
"""
