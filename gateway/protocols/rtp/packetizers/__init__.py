"""Splits access units into the payloads of RTP packets; one file for each format. Nothing here reads a clock."""
