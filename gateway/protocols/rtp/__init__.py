"""RTP without I/O: packets, their order and times, and the access units in them."""
