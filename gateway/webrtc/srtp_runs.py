"""Protects and opens several packets in one buffer, by the functions of libsrtp that pylibsrtp binds.

`Session.protect` of pylibsrtp takes 35 µs for nine packets of 1,180 bytes, most of it in Python. One copy and nine
calls of libsrtp take 10 µs. The binding is not public: it is used only if it gives the bytes of `Session.protect`.
"""

import os
from array import array
from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module
from typing import Any, Final, TypeVar

import structlog
from pylibsrtp import Policy, Session

from gateway.listeners.datagrams import MAX_BATCH

log = structlog.get_logger(__name__)

T = TypeVar("T")
MAX_PACKETS: Final = 64  # of a run: UDP_MAX_SEGMENTS of the oldest kernels
_MAX_BYTES: Final = 65_000  # of a protected run: it is one UDP datagram before the kernel segments it
_MAX_RECEIVED: Final = 1_500  # bytes of a received packet: the buffer of pylibsrtp
_PACKET_STEP: Final = 1_504  # bytes from one received packet to the next in the buffer; a multiple of 16, for alignment
MAX_PACKET: Final = 1_350  # bytes: the buffer of pylibsrtp less its longest trailer
_MIN_PACKET: Final = 12  # bytes of an RTP header
_MAX_LAYOUTS: Final = 8  # a picture has several runs if its first packet is short


class _Layout:
    """The parts of a run that are the same for all viewers.

    places: pointers to each packet and to its length, in the buffers of RunProtector.
    """

    __slots__ = ("lengths", "packets", "places", "plain", "result", "tag")

    def __init__(
        self, packets: Sequence[bytes], tag: int, lengths: list[int], places: list[tuple[Any, Any]], result: memoryview
    ) -> None:
        self.packets = packets  # kept, because the layout is found by their id
        self.tag = tag
        self.plain = bytes(tag).join(packets)
        self.lengths = array("i", lengths).tobytes()
        self.places = places
        self.result = result


class RunProtector:
    """Protects the runs of all peers of a process, on its event loop.

    A run: packets of equal length; the last one may be shorter. The layout of a tuple is made once for all viewers.
    """

    __slots__ = ("_buffer", "_bytes", "_layouts", "_length_bytes", "_lengths", "_protect", "_view")

    def __init__(self) -> None:
        """Raises ImportError or AttributeError if pylibsrtp has no such binding."""
        binding: Any = import_module("pylibsrtp._binding")
        self._protect = binding.lib.srtp_protect
        self._buffer = binding.ffi.new("char[]", _MAX_BYTES)
        self._lengths = binding.ffi.new("int[]", MAX_PACKETS)
        self._bytes = binding.ffi.buffer(self._buffer)
        self._length_bytes = binding.ffi.buffer(self._lengths)
        self._view = memoryview(self._bytes)
        self._layouts: dict[int, _Layout] = {}  # by the id of the packets; at most _MAX_LAYOUTS

    def protect(self, session: Any, packets: Sequence[bytes], tag: int) -> memoryview | None:
        """Returns the protected run, valid until the next call. None: no run, or a packet that cannot be protected.

        session: `srtp_t` of libsrtp. tag: bytes that its profile adds to a packet. Hot path.
        """
        layout = self._layouts.get(id(packets))
        if layout is None or layout.tag != tag:
            layout = self._lay_out(packets, tag)
            if layout is None:
                return None
        self._bytes[: len(layout.plain)] = layout.plain
        self._length_bytes[: len(layout.lengths)] = layout.lengths
        protect = self._protect
        errors = [protect(session, at, length) for at, length in layout.places]
        return None if any(errors) else layout.result

    def _lay_out(self, packets: Sequence[bytes], tag: int) -> _Layout | None:
        """Prepares a run. Returns None if the packets are no run."""
        lengths = [*map(len, packets)]
        count, size, last = len(lengths), lengths[0], lengths[-1]
        step = size + tag
        total = (count - 1) * step + last + tag
        # `places` holds for packets of equal length only: libsrtp would encrypt others from the wrong byte.
        if not _MIN_PACKET <= last <= size <= MAX_PACKET or lengths[:-1] != [size] * (count - 1):
            return None
        if count > MAX_PACKETS or total > _MAX_BYTES:
            return None
        places = [(self._buffer + at * step, self._lengths + at) for at in range(count)]
        layout = _Layout(packets, tag, lengths, places, self._view[:total])
        if isinstance(packets, tuple):  # a list may change before the next call
            layouts = self._layouts
            if len(layouts) >= _MAX_LAYOUTS:
                del layouts[next(iter(layouts))]
            layouts[id(packets)] = layout
        return layout


class BatchOpener:
    """Checks and decrypts the packets of one peer that came together. All peers of a process share its buffer."""

    __slots__ = ("_bytes", "_length_bytes", "_lengths", "_places", "_unprotect")

    def __init__(self) -> None:
        """Raises ImportError or AttributeError if pylibsrtp has no such binding."""
        binding: Any = import_module("pylibsrtp._binding")
        self._unprotect = binding.lib.srtp_unprotect
        buffer = binding.ffi.new("char[]", MAX_BATCH * _PACKET_STEP)
        lengths = binding.ffi.new("int[]", MAX_BATCH)
        self._bytes = binding.ffi.buffer(buffer)
        self._length_bytes = binding.ffi.buffer(lengths)
        self._lengths = memoryview(self._length_bytes).cast("B").cast("i")
        # These pointers do not keep the memory alive; the buffers do.
        self._places = [(buffer + n * _PACKET_STEP, lengths + n, n * _PACKET_STEP) for n in range(MAX_BATCH)]

    def unprotect(self, session: Any, packets: Sequence[bytes]) -> list[bytes | None] | None:
        """Returns the decrypted packets, None in place of a forged or repeated one. Hot path.

        session: `srtp_t` of libsrtp. Returns None if there are too many packets, or one is too long or too short.
        """
        sizes = [*map(len, packets)]
        if len(sizes) > MAX_BATCH or max(sizes) > _MAX_RECEIVED or min(sizes) < _MIN_PACKET:
            return None
        given = array("i", sizes).tobytes()
        self._length_bytes[: len(given)] = given
        buffer, unprotect = self._bytes, self._unprotect
        failed = 0
        errors = []
        for packet, size, (place, length, at) in zip(packets, sizes, self._places, strict=False):
            buffer[at : at + size] = packet
            error = unprotect(session, place, length)
            errors.append(error)
            failed |= error
        # A slice of the buffer is a copy.
        opened = [
            buffer[at : at + size] for size, (_, _, at) in zip(self._lengths[: len(sizes)], self._places, strict=False)
        ]
        return [None if error else packet for error, packet in zip(errors, opened, strict=True)] if failed else opened


def session_of(session: Session) -> Any:
    """Returns libsrtp's session. It lives as long as `session`. Raises AttributeError with another pylibsrtp."""
    return session._srtp[0]


@cache
def run_protector() -> RunProtector | None:
    """Returns the protector of this process; None if the binding fails the test."""
    return _checked(RunProtector, _protects, "encrypted")


@cache
def batch_opener() -> BatchOpener | None:
    """Returns the opener of this process; None if the binding fails the test."""
    return _checked(BatchOpener, _opens, "decrypted")


def _checked(make: Callable[[], T], works: Callable[[T, int, int, int], bool], verb: str) -> T | None:
    """Returns what `make` returns if it works with all profiles. verb: what it does with packets, for the log."""
    try:
        made = make()
        if all(works(made, *profile) for profile in _PROFILES):
            return made
        reason = "the result has other bytes"
    except (ImportError, AttributeError, TypeError) as error:
        reason = str(error)
    log.warning(f"SRTP packets are {verb} one by one: pylibsrtp has another binding", reason=reason)
    return None


# Profile, bytes of key and salt, bytes of the tag (RFC 7714 §13.2, RFC 4568 §6.2.1).
_PROFILES: Final = (
    (Policy.SRTP_PROFILE_AEAD_AES_128_GCM, 28, 16),
    (Policy.SRTP_PROFILE_AEAD_AES_256_GCM, 44, 16),
    (Policy.SRTP_PROFILE_AES128_CM_SHA1_80, 30, 10),
)


def _protects(protector: RunProtector, profile: int, key_size: int, tag: int) -> bool:
    """Whether a run becomes the same bytes as its packets one by one."""
    policy = Policy(os.urandom(key_size), Policy.SSRC_ANY_OUTBOUND, 0, profile)
    one_by_one, together = Session(policy), Session(policy)
    packets = _packets()
    expected = b"".join(map(one_by_one.protect, packets))
    protected = protector.protect(session_of(together), packets, tag)
    return protected is not None and protected == expected


def _opens(opener: BatchOpener, profile: int, key_size: int, tag: int) -> bool:
    """Whether the opener decrypts packets, and rejects only the forged and the repeated one."""
    key = os.urandom(key_size)
    sender = Session(Policy(key, Policy.SSRC_ANY_OUTBOUND, 0, profile))
    receiver = Session(Policy(key, Policy.SSRC_ANY_INBOUND, 0, profile))
    first, second, third = _packets()
    sealed = [*map(sender.protect, (first, second, third))]
    if len(sealed[0]) != len(first) + tag:
        return False
    given = (sealed[0], sealed[1][:-1] + bytes((sealed[1][-1] ^ 1,)), sealed[0], *sealed[1:])
    return opener.unprotect(session_of(receiver), given) == [first, None, None, second, third]


def _packets() -> tuple[bytes, ...]:
    """Returns a run of three packets."""
    return tuple(b"\x80\x60" + bytes((0, number)) + bytes(200 - number // 2 * 50) for number in range(3))
