"""Nodes that share the streams: finding a stream's holder, pulling it from there, carrying pushes to it."""
