"""Playback: answers viewers' requests for each format, and checks the viewer's permission.

Paths are parsed here. Media comes from `gateway.packaging`.
"""
