"""Targets `fuzz(data: bytes) -> None`, one per module, and the programs that run them."""
