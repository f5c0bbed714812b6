"""Matroska as live senders write it: a Segment and Clusters of unknown size (RFC 9559)."""
