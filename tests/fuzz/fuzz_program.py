"""Live transport streams: any bytes give events, raise nothing, and whole and in steps alike."""

from __future__ import annotations

from gateway.formats.ts import psi
from gateway.formats.ts.muxer import TsMuxer
from gateway.formats.ts.program_reader import ClockJump, Event, ProgramReader, ProgramUnit
from gateway.media import nal
from tests.support.builders import AUDIO, VIDEO

_STUFFING = b"\x47\x1f\xff\x10" + b"\xff" * 184
_OPUS = "7fe004fcfffe01"


def _section(pid: int, section: bytes) -> bytes:
    return bytes((0x47, 0x40 | pid >> 8, pid & 0xFF, 0x10)) + (b"\0" + section).ljust(184, b"\xff")


def _latm(frame: bytes) -> bytes:
    """An AudioSyncStream frame with its configuration."""
    # useSameStreamMux 0, version 0, one framing, one frame, program and layer; AudioSpecificConfig; frameLengthType 0,
    # buffer fullness, no other data, no checksum.
    bits = "00" + "1" + "000000" + "0000" + "000" + f"{0x1190:016b}" + "000" + "11111111" + "0" + "0"
    bits += f"{len(frame):08b}" + "".join(f"{byte:08b}" for byte in frame)
    element = int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big")
    return (0x2B7 << 13 | len(element)).to_bytes(3, "big") + element


def _sound(kind: int, extra: bytes, frames: bytes) -> bytes:
    """A program with one stream of sound and of cues, and a PES packet of this sound."""
    pes = b"\0\0\1\xc0" + (len(frames) + 8).to_bytes(2, "big") + b"\x84\x80\x05\x21\0\1\0\1" + frames
    fill = 184 - len(pes)
    packet = b"\x47\x41\0\x30" + bytes((fill - 1, 0)) + b"\xff" * (fill - 2) + pes
    tables = psi.pmt(0x100, [(kind, 0x100, extra), (0x86, 0x101, b"")])
    return b"\x47\x40\0\x10" + psi.pat() + b"\x47\x50\0\x10" + tables + packet + _STUFFING * 2


def seeds() -> list[bytes]:
    """Streams of our muxer, and others with one frame of each sound."""
    muxer = TsMuxer(VIDEO, AUDIO)
    data = muxer.write_tables()
    for n in range(5):
        picture = nal.join([(b"\x65" if n == 0 else b"\x41") + b"\xab" * (150 * n + 9)])
        data += muxer.write_video(3000 * n, 3000 * (n % 3), n == 0, picture).render()
        data += b"".join(p.render() for p in muxer.write_audio([b"a" * 40, b"b" * 50], 3000 * n))
    opus = b"\x05\x04Opus\x7f\x02\x80\x02"
    cue = b"\xfc\x30\x11" + b"\0" * 13
    return [
        data,
        _sound(0x11, b"\x0a\x04deu\0", _latm(b"frame") * 3),
        _sound(0x06, opus, bytes.fromhex(_OPUS) * 3),
        _sound(0x06, b"", b"\xff\xf1\x4c\x80\x01\xbf\xfcframe!" * 2),
        _sound(0x06, b"", b"\x82\x49\x83\x42\0"),
        _sound(0x03, b"", b"\xff\xfd\x14\xc0" + b"\0" * 92),
        _sound(0x0F, b"", b"\xff\xf1\x4c\x80\x01\xbf\xfcframe!" * 2)
        + _section(0x101, cue + psi.crc32(cue).to_bytes(4, "big"))
        + _STUFFING,
    ]


def read(data: bytes, step: int) -> list[Event]:
    reader = ProgramReader()
    events = [event for at in range(0, len(data), step) for event in reader.receive(data[at : at + step])]
    return events + reader.finish()


def fuzz(data: bytes) -> None:
    """Oracle: events that do not depend on the cuts and whose media are not larger than the input."""
    events = read(data, max(len(data), 1))
    assert events == read(data, 100)
    units = [event.unit for event in events if isinstance(event, ProgramUnit)]
    # Lengths of four bytes replace start codes of three.
    assert sum(len(u.payload) for u in units) <= 2 * len(data)
    assert sum(isinstance(event, ClockJump) for event in events) <= len(units)
