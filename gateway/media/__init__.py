"""What travels: tracks, access units, and the bits of each codec that a gateway has to read."""
