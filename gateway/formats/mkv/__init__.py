"""Live Matroska: a Segment and Clusters of unknown size (RFC 9559)."""
