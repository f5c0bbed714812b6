"""Reports of a node about its streams and itself, as JSON, for clients of the API and for other nodes."""
