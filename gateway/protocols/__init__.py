"""Wire protocols without I/O: they take bytes and return events."""
