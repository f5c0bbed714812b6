"""Receives pushes: decides which may publish, and turns a protocol's bytes into media units.

There is one folder for each protocol. The limits for unknown peers are equal for all listeners.
"""
