"""Turns media units into the formats of players: FLV and RTMP feeds, MPEG-TS segments, CMAF fragments.

Packagers only write to memory; `gateway.playback` serves the result.
"""
