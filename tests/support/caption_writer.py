"""Closed captions for tests: pairs of bytes of CEA-608, packets of CEA-708, and their user data in pictures."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.support.media import Film, made_once
from tests.support.run_folder import run_folder
from tests.support.time_outs import at_most

_CONTROL = {1: 0x14, 2: 0x1C, 3: 0x15, 4: 0x1D}  # of CC1 to CC4
# The first byte of the code of each row, and whether it is the second row with that byte. There is no row 0.
_PREAMBLES = [(0, 0), (0x11, 0), (0x11, 1), (0x12, 0), (0x12, 1), (0x15, 0), (0x15, 1), (0x16, 0), (0x16, 1)]
_PREAMBLES += [(0x17, 0), (0x17, 1), (0x10, 0), (0x13, 0), (0x13, 1), (0x14, 0), (0x14, 1)]


def odd(pair: bytes) -> bytes:
    """Two bytes with odd parity."""
    return bytes(byte | 0x80 * (byte.bit_count() % 2 == 0) for byte in pair)


def rolled_up(channel: int, text: str) -> list[bytes]:
    """The pairs of a line of a roll-up caption with two rows in CC1 to CC4, with each control code twice."""
    return [*code(channel, 0x25), *code(channel, 0x2D), *place(channel, 15), *typed(text)]


def code(channel: int, second: int, first: int = 0) -> list[bytes]:
    """A control code for CC1 to CC4, twice. first: 0x10 to 0x17; 0: that of miscellaneous codes."""
    control = first | _CONTROL[channel] & 0x08 if first else _CONTROL[channel]
    return [odd(bytes([control, second]))] * 2


def place(channel: int, row: int, column: int = 0) -> list[bytes]:
    """The preamble address code of a row, 1 to 15, and a column that is a multiple of four."""
    first, half = _PREAMBLES[row]
    return code(channel, 0x50 | half << 5 | column // 2, first)


def typed(text: str) -> list[bytes]:
    """The pairs of a text of ASCII."""
    data = text.encode("ascii") + b"\x00" * (len(text) % 2)
    return [odd(data[n : n + 2]) for n in range(0, len(data), 2)]


def popped_on(channel: int, *lines: str) -> list[bytes]:
    """The pairs of a pop-on caption on the last rows. The picture of the last pair but one shows it."""
    rows = [pair for row, text in enumerate(lines, 16 - len(lines)) for pair in place(channel, row) + typed(text)]
    return [*code(channel, 0x20), *code(channel, 0x2E), *rows, *code(channel, 0x2F)]


def painted_on(channel: int, row: int, text: str) -> list[bytes]:
    """The pairs of a paint-on row."""
    return [*code(channel, 0x29), *place(channel, row), *typed(text)]


def packet(number: int, text: bytes, sequence: int = 0) -> list[bytes]:
    """The pairs of a packet of CEA-708 with one block of a service. The first pair starts it. sequence: 0 to 3."""
    block = bytes([number << 5 | len(text)]) if number < 7 else bytes([7 << 5 | len(text), number])
    body = block + text
    body += b"\x00" * (1 - len(body) % 2)
    data = bytes([sequence << 6 | (len(body) + 1) // 2]) + body
    return [data[n : n + 2] for n in range(0, len(data), 2)]


def user_data(pairs: Sequence[tuple[int, bytes]]) -> bytes:
    """The user data of a picture (ATSC A/53): pairs with their `cc_type`."""
    data = b"".join(bytes([0xFC | kind]) + pair for kind, pair in pairs)
    return b"\xb5\x00\x31GA94\x03" + bytes([0x40 | len(pairs), 0xFF]) + data + b"\xff"


def sei(message: bytes, *, h265: bool = False) -> bytes:
    """An SEI NAL unit with registered user data, with its emulation prevention."""
    body = b"\x04" + bytes([len(message)]) + message + b"\x80"
    escaped, zeros = bytearray(), 0
    for byte in body:
        if zeros == 2 and byte < 4:
            escaped.append(3)
            zeros = 0
        escaped.append(byte)
        zeros = zeros + 1 if byte == 0 else 0
    return (b"\x4e\x01" if h265 else b"\x06") + bytes(escaped)


def captioned(film: Film, lines: Sequence[tuple[int, str]]) -> Path:
    """An FLV file: an H.264 film with lines in CC1, each from its picture on, two bytes a picture. It has no sound.

    lines: number of the first picture, and text.
    """
    pairs: dict[int, bytes] = {}
    for first, text in lines:
        pairs |= dict(enumerate(rolled_up(1, text), first))
    return with_pairs(film, pairs)


def with_pairs(film: Film, pairs: Mapping[int, bytes]) -> Path:
    """An FLV file: an H.264 film without sound and B-frames, with pairs of field 1 by the number of the picture."""
    raw = made_once(
        "h264", ["ffmpeg", "-i", str(film.path()), "-c", "copy", "-bsf:v", "h264_mp4toannexb", "-f", "h264"]
    )
    out, number = bytearray(), 0
    for unit in raw.read_bytes().split(b"\x00\x00\x01")[1:]:
        if unit[0] & 0x1F in (1, 5) and unit[1] & 0x80:  # the first slice of a picture: first_mb_in_slice is 0
            pair = pairs.get(number, b"\x80\x80")
            out += b"\x00\x00\x00\x01" + sei(user_data([(0, pair), (1, b"\x80\x80")]))
            number += 1
        out += b"\x00\x00\x01" + unit
    written = run_folder() / f"{hashlib.sha256(out).hexdigest()[:16]}.h264"
    written.write_bytes(out)
    return made_once("flv", ["ffmpeg", "-r", "30", "-i", str(written), "-c", "copy", "-f", "flv"])


def captions_of(path: Path) -> list[str]:
    """The texts of CC1 in a file, as ffmpeg decodes them."""
    graph = f"movie={path}[out0+subcc]"
    command = ["ffmpeg", "-nostdin", "-v", "error", "-f", "lavfi", "-i", graph, "-map", "0:s", "-f", "webvtt", "-"]
    text = subprocess.run(command, capture_output=True, text=True, check=True, timeout=at_most(60)).stdout
    return [line for line in text.splitlines() if line and line != "WEBVTT" and "-->" not in line]
