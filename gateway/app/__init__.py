"""The roles (gateway, worker): creates their services, starts them and shuts them down.

This package may import all others; only the command line imports it.
"""
