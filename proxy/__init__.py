"""The playback edge: finds the gateway that holds a stream, pulls it once, and serves any number of viewers."""
