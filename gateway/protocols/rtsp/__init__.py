"""RTSP 1.0 (RFC 2326) for clients and servers, without I/O: messages, authentication, descriptions, sessions."""
