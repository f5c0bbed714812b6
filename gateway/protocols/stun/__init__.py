"""STUN (RFC 8489) as ICE uses it: messages with short-term credentials, without I/O."""
