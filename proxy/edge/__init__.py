"""The playback edge: viewers' connections, one pull for each stream, cached files.

It uses the packages of the gateway. It accepts no pushes and has no stores of its own.
"""
