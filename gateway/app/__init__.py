"""The roles (gateway, worker): creates their services, starts them and shuts them down.

This package may import all others. Only the command line and the edge import it.
"""
