"""Checksums of media formats by their polynomial."""

from functools import cache


def remainder(data: bytes, polynomial: int) -> int:
    """Returns the checksum of data, which begins with 0. polynomial: with its highest bit, of 8 bits or more."""
    width, steps, value = polynomial.bit_length() - 1, _steps(polynomial), 0
    for byte in data:
        value = (value << 8 ^ steps[value >> width - 8 ^ byte]) & (1 << width) - 1
    return value


@cache
def _steps(polynomial: int) -> tuple[int, ...]:
    """Returns the checksum of each byte."""
    width = polynomial.bit_length() - 1
    steps = [byte << width - 8 for byte in range(256)]
    for _ in range(8):
        steps = [value << 1 ^ (polynomial if value >> width - 1 else 0) for value in steps]
    return tuple(steps)
