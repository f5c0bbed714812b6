"""A film in as many packets as our test films have, pushed by a simulated clock, and its pictures that were lost."""

from collections.abc import Callable, Sequence

from gateway.protocols.srt.connection import SrtConnection

PICTURES_PER_SECOND = GOP = 30
_OF_KEY_FRAME = 12  # payloads of a key frame, as of our test films; other pictures have one, with their sound
_SIZE = 188


def picture(number: int) -> list[bytes]:
    """The payloads of a picture."""
    parts = _OF_KEY_FRAME if number % GOP == 0 else 1
    return [number.to_bytes(4, "big") + part.to_bytes(1, "big") + bytes(_SIZE - 5) for part in range(parts)]


def film_of(sender: SrtConnection, seconds: float, began: float = 100.0) -> Callable[[float], None]:
    """Returns what pushes the pictures that are due. Call it at each tick. began: the time of the first picture."""
    number = 0

    def push(now: float) -> None:
        nonlocal number
        while number < min(now - began, seconds) * PICTURES_PER_SECOND:
            sender.push(picture(number), now)
            number += 1

    return push


def lost_pictures(delivered: Sequence[bytes], seconds: float) -> int:
    """The pictures that cannot be decoded: a part of them is lost, or of one before them in their GOP.

    Fails if the payloads are not in their order.
    """
    wanted = [payload for number in range(round(seconds * PICTURES_PER_SECOND)) for payload in picture(number)]
    came = set(delivered)
    assert list(delivered) == [payload for payload in wanted if payload in came]
    lost, is_intact = 0, True
    for number in range(round(seconds * PICTURES_PER_SECOND)):
        is_intact = (is_intact or number % GOP == 0) and came.issuperset(picture(number))
        lost += not is_intact
    return lost
