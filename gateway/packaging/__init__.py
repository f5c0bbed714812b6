"""Turns media units into what players read: FLV and RTMP feeds, MPEG-TS segments, CMAF fragments.

Packagers write to memory only; `gateway.playback` serves the result.
"""
