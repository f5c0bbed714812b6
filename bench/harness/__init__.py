"""The load bench: processes it owns, the servers it compares, what it measures of them."""
