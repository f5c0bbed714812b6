"""Rules of FLV v10.1 annex E and Enhanced RTMP v2 on the bytes of a live HTTP-FLV viewer."""

from __future__ import annotations

import struct
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from typing import Any

from judges.findings import Findings

AUDIO, VIDEO, SCRIPT = 8, 9, 18
AAC_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)
HIGH_PROFILES = (100, 110, 122, 244, 44, 83, 86, 118, 128)
# Pictures and sound of one moment may be so far apart in the file, in milliseconds.
APART = 1500


class Malformed(Exception):
    """The bytes of a tag are not what its type says."""


def judge(url: str, seconds: float, findings: Findings) -> None:
    """Reads a live address for so many seconds, and judges what came."""
    data = bytearray()
    try:
        with urllib.request.urlopen(url, timeout=30) as reply:
            kind = reply.headers.get("Content-Type")
            findings.require(kind == "video/x-flv", "content type of FLV", kind)
            end = time.monotonic() + seconds
            while time.monotonic() < end and (piece := reply.read1(65536)):
                data += piece
    except (urllib.error.HTTPError, OSError) as error:
        findings.breaks("the stream is available", error)
        return
    judge_bytes(bytes(data), findings)


def judge_bytes(data: bytes, findings: Findings) -> None:
    """Judges an FLV byte stream; a tag that is cut off at the end is left out."""
    if len(data) < 13 or data[:4] != b"FLV\x01":
        findings.breaks("E.2 the header begins with FLV and version 1", data[:13].hex())
        return
    flags, offset = data[4], struct.unpack_from(">I", data, 5)[0]
    findings.require(offset == 9 and not flags & ~5, "E.2 fields of the header", data[:9].hex())
    findings.require(data[9:13] == bytes(4), "E.3 PreviousTagSize0 is 0", data[9:13].hex())
    stream = _Stream(findings)
    at = 13
    while at + 15 <= len(data):
        size = int.from_bytes(data[at + 1 : at + 4], "big")
        if at + 15 + size > len(data):
            break
        told = struct.unpack_from(">I", data, at + 11 + size)[0]
        if told != 11 + size:
            findings.breaks("E.3 PreviousTagSize", f"{told} behind a tag of {11 + size} bytes")
            break
        stream.tag(data[at : at + 11], data[at + 11 : at + 11 + size])
        at += 15 + size
    stream.end(flags)


@dataclass
class _Stream:
    """The state of a reader. size: of the picture by its sequence header; sound: sample rate and channels by AAC's."""

    findings: Findings
    counts: dict[int, int] = field(default_factory=dict)
    last: dict[int, int] = field(default_factory=dict)
    latest: int | None = None
    metadata: dict[str, Any] | None = None
    size: tuple[int, int] | None = None
    sound: tuple[int, int] | None = None
    configured: set[int] = field(default_factory=set)
    key_seen: bool = False

    def tag(self, head: bytes, body: bytes) -> None:
        require, kind = self.findings.require, head[0]
        timestamp = int.from_bytes(head[4:7], "big") | head[7] << 24
        require(head[8:11] == bytes(3), "E.4.1 StreamID is 0", head[8:11].hex())
        require(not kind & 0xE0, "E.4.1 reserved bits are 0", hex(kind))
        if kind not in (AUDIO, VIDEO, SCRIPT):
            self.findings.breaks("E.4.1 the tag type is known", kind)
            return
        require(self.counts or kind == SCRIPT, "onMetaData comes first", kind)
        self.counts[kind] = self.counts.get(kind, 0) + 1
        self._time(kind, timestamp)
        try:
            if kind == SCRIPT:
                self._script(body)
            elif kind == VIDEO:
                self._video(body, timestamp)
            else:
                self._audio(body, timestamp)
        except (IndexError, struct.error, Malformed, UnicodeDecodeError) as error:
            self.findings.breaks("the body of a tag is well-formed", f"type {kind} at {timestamp}: {error!r}")

    def _time(self, kind: int, timestamp: int) -> None:
        require, words = self.findings.require, f"type {kind}: {timestamp} after {self.last.get(kind, self.latest)}"
        require(timestamp >= self.last.get(kind, 0), "timestamps of a kind do not go back", words)
        if self.latest is not None and kind == SCRIPT:
            words = f"{timestamp} after {self.latest}"
            require(timestamp >= self.latest - 1, "timestamps of script data do not go back", words)
        if self.latest is not None and kind != SCRIPT and self.counts[kind] > 3:
            words = f"type {kind}: {timestamp} beside {self.latest}"
            require(abs(timestamp - self.latest) <= APART, "sound and pictures stay together", words)
        self.last[kind] = timestamp
        if kind != SCRIPT:
            self.latest = timestamp

    def _script(self, body: bytes) -> None:
        name, at = amf0(body, 0)
        if name == "onMetaData":
            self.metadata, at = amf0(body, at)
        self.findings.require(at == len(body), "script data ends where its tag ends", f"{at} {len(body)}")

    def _metadata_agrees(self, timestamp: int) -> None:
        """onMetaData says the size and the sound of the sequence header that follows it."""
        told, require = self.metadata, self.findings.require
        if told is None:
            return
        if self.size and "width" in told:
            size = (int(told["width"]), int(told.get("height", 0)))
            words = f"at {timestamp} ms: {size}, sequence header {self.size}"
            require(size == self.size, "onMetaData has the picture's size", words)
        if self.sound and "audiosamplerate" in told:
            rate = self.sound[0]
            # HE-AAC: the header may say half of the rate that is played.
            same = int(told["audiosamplerate"]) in (rate, rate * 2, rate // 2)
            require(same, "onMetaData has the sample rate", f"{told['audiosamplerate']} {rate}")
        if self.sound and "stereo" in told:
            require(bool(told["stereo"]) == (self.sound[1] == 2), "onMetaData has the channels", self.sound)

    def _video(self, body: bytes, timestamp: int) -> None:
        frame_type = body[0] >> 4 & 7
        if body[0] & 0x80:
            self._enhanced_video(body, frame_type, timestamp)
            return
        codec, packet = body[0] & 15, body[1]
        if packet == 0 and codec in (7, 12):
            self.configured.add(VIDEO)
            self.findings.require(frame_type == 1, "E.4.3.1 a sequence header has frame type 1", frame_type)
            if codec == 7:
                self.size = avc_size(body[5:])
            self._metadata_agrees(timestamp)
        elif packet == 1 or codec not in (7, 12):
            cts = int.from_bytes(body[2:5], "big", signed=True)
            self.findings.require(cts >= 0 or codec != 7, "E.4.3.1 composition time is not negative", cts)
            self._picture(body[5:], frame_type, timestamp, with_lengths=codec in (7, 12))

    def _enhanced_video(self, body: bytes, frame_type: int, timestamp: int) -> None:
        packet, fourcc = body[0] & 15, body[1:5]
        self.findings.require(packet <= 6, "Enhanced RTMP: VideoPacketType is known", packet)
        if packet == 0:
            self.configured.add(VIDEO)
            self._metadata_agrees(timestamp)
        elif packet in (1, 3):
            with_cts = packet == 1 and fourcc in (b"hvc1", b"avc1", b"vvc1")
            payload = body[8:] if with_cts else body[5:]
            self._picture(payload, frame_type, timestamp, with_lengths=fourcc in (b"hvc1", b"avc1", b"vvc1"))

    def _picture(self, payload: bytes, frame_type: int, timestamp: int, *, with_lengths: bool) -> None:
        require = self.findings.require
        require(VIDEO in self.configured, "a sequence header comes before the first picture", timestamp)
        require(self.key_seen or frame_type == 1, "the first picture is a key frame", frame_type)
        self.key_seen = True
        require(payload, "a picture is not empty", timestamp)
        at = 0
        while with_lengths and at + 4 <= len(payload):
            at += 4 + int.from_bytes(payload[at : at + 4], "big")
        fills = not with_lengths or at == len(payload)
        require(fills, "lengths of NAL units fill the tag", f"{timestamp}: {at} {len(payload)}")

    def _audio(self, body: bytes, timestamp: int) -> None:
        require, sound_format = self.findings.require, body[0] >> 4
        if sound_format == 10 and body[1] == 0:
            self.configured.add(AUDIO)
            bits = int.from_bytes(body[2:4], "big")
            index = bits >> 7 & 15
            self.sound = (AAC_RATES[index] if index < len(AAC_RATES) else 0, bits >> 3 & 15)
            require(body[0] == 0xAF, "E.4.2.1 AAC is marked as 44 kHz, 16 bit, stereo", hex(body[0]))
            self._metadata_agrees(timestamp)
        elif sound_format == 10:
            require(AUDIO in self.configured, "the AAC configuration comes before the first sound", timestamp)
            require(len(body) > 2, "a frame of AAC is not empty", timestamp)
        elif sound_format == 9:
            require(body[0] & 15 <= 5, "Enhanced RTMP: AudioPacketType is known", body[0] & 15)

    def end(self, flags: int) -> None:
        """The header announces what comes, and nothing else (E.2)."""
        for kind, bit in ((VIDEO, 1), (AUDIO, 4)):
            agrees = bool(flags & bit) == (kind in self.counts)
            self.findings.require(agrees, "E.2 the header announces what comes", f"flags {flags}, tags {self.counts}")
        self.findings.note("tags by type", self.counts)


def amf0(data: bytes, at: int) -> tuple[Any, int]:
    """Reads an AMF0 value; returns it and the position behind it. Raises Malformed for another type."""
    kind = data[at]
    at += 1
    match kind:
        case 0:
            return struct.unpack_from(">d", data, at)[0], at + 8
        case 1:
            return bool(data[at]), at + 1
        case 2:
            end = at + 2 + int.from_bytes(data[at : at + 2], "big")
            return data[at + 2 : end].decode(), end
        case 3 | 8:
            return _amf0_object(data, at + (4 if kind == 8 else 0))
        case 5 | 6:
            return None, at
        case 10:
            count, at = struct.unpack_from(">I", data, at)[0], at + 4
            values = []
            for _ in range(count):
                value, at = amf0(data, at)
                values.append(value)
            return values, at
        case 11:
            return struct.unpack_from(">d", data, at)[0], at + 10
    raise Malformed(f"AMF0 type {kind}")


def _amf0_object(data: bytes, at: int) -> tuple[dict[str, Any], int]:
    found: dict[str, Any] = {}
    while True:
        end = at + 2 + int.from_bytes(data[at : at + 2], "big")
        name = data[at + 2 : end].decode()
        if not name and data[end] == 9:
            return found, end + 1
        found[name], at = amf0(data, end)


class _Bits:
    """Bits of an RBSP, with Exp-Golomb codes (ISO/IEC 14496-10 §9.1)."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def bits(self, count: int) -> int:
        value = 0
        for _ in range(count):
            value = value << 1 | self._data[self._at >> 3] >> (7 - (self._at & 7)) & 1
            self._at += 1
        return value

    def unsigned(self) -> int:
        zeros = 0
        while not self.bits(1):
            zeros += 1
        return (1 << zeros) - 1 + (self.bits(zeros) if zeros else 0)

    def signed(self) -> int:
        code = self.unsigned()
        return (code + 1) // 2 if code & 1 else -(code // 2)


def avc_size(record: bytes) -> tuple[int, int]:
    """Width and height of the first SPS of an AVCDecoderConfigurationRecord (ISO/IEC 14496-10 §7.3.2.1.1)."""
    length = int.from_bytes(record[6:8], "big")
    bits = _Bits(record[9 : 8 + length].replace(b"\0\0\3", b"\0\0"))
    profile = bits.bits(8)
    bits.bits(16)
    bits.unsigned()
    chroma = 1
    if profile in HIGH_PROFILES:
        chroma = _skip_high_profile(bits)
    bits.unsigned()
    order = bits.unsigned()
    if order == 0:
        bits.unsigned()
    elif order == 1:
        bits.bits(1)
        for _ in range(2):
            bits.signed()
        for _ in range(bits.unsigned()):
            bits.signed()
    bits.unsigned()
    bits.bits(1)
    width, rows = (bits.unsigned() + 1) * 16, bits.unsigned() + 1
    frames_only = bits.bits(1)
    height = rows * 16 * (2 - frames_only)
    if not frames_only:
        bits.bits(1)
    bits.bits(1)
    if bits.bits(1):
        left, right, top, bottom = (bits.unsigned() for _ in range(4))
        across = 2 if chroma in (1, 2) else 1
        down = (2 if chroma == 1 else 1) * (2 - frames_only)
        width, height = width - across * (left + right), height - down * (top + bottom)
    return width, height


def _skip_high_profile(bits: _Bits) -> int:
    chroma = bits.unsigned()
    if chroma == 3:
        bits.bits(1)
    for _ in range(2):
        bits.unsigned()
    bits.bits(1)
    if bits.bits(1):
        for index in range(12 if chroma == 3 else 8):
            if bits.bits(1):
                last = following = 8
                for _ in range(16 if index < 6 else 64):
                    if following:
                        following = (last + bits.signed()) % 256
                    last = following or last
    return chroma
