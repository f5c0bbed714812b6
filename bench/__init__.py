"""Benches of the gateway, beside other servers and beside older code: figures that are read, not asserted."""
