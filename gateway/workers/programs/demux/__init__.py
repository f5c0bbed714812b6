"""Copies the tracks of films, HLS and MPEG-TS without decoding. Only sound that a stream cannot carry is encoded."""
