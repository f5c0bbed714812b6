"""Listeners: what moves bytes between sockets and the pure code, and nothing else."""
