"""Targets `fuzz(data: bytes) -> None`, one a module, and what runs them."""
