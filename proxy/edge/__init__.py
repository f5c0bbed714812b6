"""The playback edge: finds the gateway that holds a stream, pulls it once, and serves any number of viewers.

It uses the packages of the gateway. It accepts no pushes and has no own stores.
"""
