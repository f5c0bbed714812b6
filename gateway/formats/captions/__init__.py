"""Closed captions of pictures as text."""
