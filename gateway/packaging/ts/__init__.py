"""HLS with MPEG-TS segments.

Segments follow RFC 8216; the TS muxer is in `gateway.formats.ts`.
"""
