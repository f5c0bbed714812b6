"""Closed captions for tests: pairs of bytes of CEA-608, packets of CEA-708, and their user data in pictures."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.support.media import Film, made_once
from tests.support.run_folder import run_folder

_CONTROL = {1: b"\x14", 2: b"\x1c", 3: b"\x15", 4: b"\x1d"}  # of CC1 to CC4
_ROLL_UP, _RETURN, _LAST_ROW = b"\x25", b"\x2d", b"\x70"


def odd(pair: bytes) -> bytes:
    """Two bytes with odd parity."""
    return bytes(byte | 0x80 * (byte.bit_count() % 2 == 0) for byte in pair)


def rolled_up(channel: int, text: str) -> list[bytes]:
    """The pairs of a line of a roll-up caption in CC1 to CC4, with each control code twice."""
    control = _CONTROL[channel]
    codes = [control + _ROLL_UP, control + _RETURN, control + _LAST_ROW]
    data = text.encode("ascii") + b"\x00" * (len(text) % 2)
    return [odd(code) for code in codes for _ in range(2)] + [odd(data[n : n + 2]) for n in range(0, len(data), 2)]


def packet(number: int, text: bytes) -> list[bytes]:
    """The pairs of a packet of CEA-708 with one block of a service. The first pair starts it."""
    block = bytes([number << 5 | len(text)]) if number < 7 else bytes([7 << 5 | len(text), number])
    body = block + text
    body += b"\x00" * (1 - len(body) % 2)
    data = bytes([(len(body) + 1) // 2]) + body
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
    raw = made_once(
        "h264", ["ffmpeg", "-i", str(film.path()), "-c", "copy", "-bsf:v", "h264_mp4toannexb", "-f", "h264"]
    )
    pairs: dict[int, bytes] = {}
    for first, text in lines:
        pairs |= dict(enumerate(rolled_up(1, text), first))
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
    text = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    return [line for line in text.splitlines() if line and line != "WEBVTT" and "-->" not in line]
