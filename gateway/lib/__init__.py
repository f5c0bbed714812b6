"""Tools without a domain: what any floor above may use."""
