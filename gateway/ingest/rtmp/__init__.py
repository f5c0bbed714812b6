"""RTMP and RTMPS: the listener, a connection's session, and its media.

The wire format itself is in `gateway.protocols.rtmp` and does no I/O.
"""
