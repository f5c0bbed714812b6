"""Receives pushes: decides which may publish, and turns a protocol's bytes into media units.

There is one folder for each protocol; every listener has the same limits for unknown peers.
"""
