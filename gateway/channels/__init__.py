"""Channels: their fields, stream keys, addresses, schedules and protection.

The modules contain values and rules without I/O. Stores keep channels; the API edits them.
"""
