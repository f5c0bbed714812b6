"""Mutator: damages a seed the same way every time, by the number of the attempt."""

from __future__ import annotations

import random
from collections.abc import Sequence

LONGEST = 8192  # of what it makes, in bytes

_BYTES = (0, 1, 2, 9, 10, 13, 32, 34, 37, 38, 46, 47, 60, 63, 64, 91, 92, 127, 128, 192, 254, 255)
_NUMBERS = (
    0,
    1,
    7,
    8,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0x8000,
    0xFFFF,
    0x7FFFFF,
    0xFFFFFF,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
)


def mutated(seeds: Sequence[bytes], name: str, number: int) -> bytes:
    """Attempt `number` of the target `name`: one of `seeds`, changed in one to eight places, at most LONGEST bytes."""
    chance = random.Random(f"{name} {number}")
    data = bytearray(chance.choice(seeds))
    for _ in range(chance.choice((1, 1, 2, 3, 8))):
        _change(data, chance, seeds)
    return bytes(data[:LONGEST])


def _change(data: bytearray, chance: random.Random, seeds: Sequence[bytes]) -> None:
    at = chance.randrange(len(data) + 1)
    size = chance.choice((1, 1, 2, 4, 8, 32, 200))
    match chance.randrange(9):
        case 0 if at < len(data):
            data[at] ^= 1 << chance.randrange(8)
        case 1 if at < len(data):
            data[at] = chance.choice(_BYTES)
        case 2:  # a length that lies, of any width
            width = chance.choice((2, 3, 4, 8))
            number = chance.choice(_NUMBERS) & (1 << 8 * width) - 1
            data[at : at + width] = number.to_bytes(width, chance.choice(("big", "little")))
        case 3:
            del data[at : at + size]
        case 4:
            del data[at:]
        case 5:  # the same again
            data[at:at] = data[at : at + size] * chance.choice((1, 1, 3, 30))
        case 6:
            data[at:at] = chance.randbytes(size)
        case 7:  # a piece of another seed
            other = chance.choice(seeds)
            start = chance.randrange(len(other) + 1)
            data[at : at + chance.choice((0, size))] = other[start : start + size]
        case _:  # a piece of its own, elsewhere
            start = chance.randrange(len(data) + 1)
            data[at:at] = data[start : start + size]
