"""Ports over TCP and UDP: the common parts of all listeners.

A listener accepts clients, limits those that have not shown a key yet, and shares its port with other processes.
WebRTC, ingest protocols, and playback formats with their own port use these parts.
"""
