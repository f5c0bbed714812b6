"""RTSP 1.0 (RFC 2326) for clients, without I/O: messages, authentication, session descriptions."""
