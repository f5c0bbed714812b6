"""Millrace: a live media gateway."""

__version__ = "0.1.0"
