"""Files of streams that other nodes hold, from a memory cache."""
