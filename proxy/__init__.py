"""The playback edge: finds the gateway that holds a stream, pulls it once, and gives it to any number of viewers."""
