"""Adapters for AWS services. They need the extra `aws`."""
