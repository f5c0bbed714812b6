"""Sinks: outputs that keep a stream or send it elsewhere: recordings, pictures, relays."""
