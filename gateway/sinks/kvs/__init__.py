"""Kinesis Video Streams: live streams and stored objects sent by PutMedia, one Matroska cluster a fragment."""
