"""Splits access units into the payloads of RTP packets; one file a payload format. Nothing here reads a clock."""
