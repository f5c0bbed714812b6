"""Nodes over real sockets, in one process."""
