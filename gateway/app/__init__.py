"""The roles (gateway, worker): creates their parts, starts them and shuts them down.

This package may import all others; only the command line imports it.
"""
