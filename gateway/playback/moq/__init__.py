"""Viewers by Media over QUIC. The library `moq-rs` has the protocol; it is loaded only when the port is open."""
