"""Adapters of AWS services; they need the extra `aws`."""
