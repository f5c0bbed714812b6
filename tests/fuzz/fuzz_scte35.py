"""Target: sections of ad cues, alone and in script data. What is read can be written, and is read as the same."""

from __future__ import annotations

import base64

from gateway.formats import amf0
from gateway.formats.script_data import Values, read_values
from gateway.formats.scte35 import (
    BreakDuration,
    Segmentation,
    SpliceInfo,
    SpliceInsert,
    TimeSignal,
    read_section,
    write_section,
)
from gateway.formats.splices import read_script_splice, read_splice
from gateway.formats.ts.psi import crc32
from gateway.media.errors import InvalidData

SEEDS = [
    write_section(SpliceInfo(SpliceInsert(7, True, 900, duration=BreakDuration(900)), pts_adjustment=5)),
    write_section(SpliceInfo(SpliceInsert(7, False, None, True))),
    write_section(SpliceInfo(SpliceInsert(7, False, None, False, ((1, 5), (2, None))))),
    write_section(SpliceInfo(TimeSignal(7), (Segmentation(9, 0x34, 900, 8, b"12345678", 1, 2, (1, 2)),))),
    amf0.encode({"scte35": "/DARAAAAAAAAAP/wAAAAAHpPv/8=", "type": "out", "at": 5.0}),
    amf0.encode({"type": "com.youtube.cuepoint", "cue_point_start": True, "break_duration_sec": 30.0}),
    amf0.encode({"cue": "SpliceOut", "id": "1", "duration": 5.0, "time": 7.0}),
    amf0.encode({"parameters": {"out_of_network_indicator": True, "pre_roll_time": 5.0, "break_duration": 5.0}}),
    amf0.encode({"name": "x", "time": 2.0, "type": "event", "parameters": {"type": "out", "duration": 5.0}}),
]


def fuzz(data: bytes) -> None:
    _read_section(data)
    if len(data) > 4:  # the same with a right CRC, which almost no mutation has
        body = data[:1] + (0x3000 | len(data) - 3 & 0xFFF).to_bytes(2, "big") + data[3:-4]
        _read_section(body + crc32(body).to_bytes(4, "big"))
    for name in ("onAdCue", "onCuePoint"):
        _read_script(name, read_values(data))
    _read_script("onAdCue", {"scte35": base64.b64encode(data).decode()})


def _read_section(data: bytes) -> None:
    try:
        info = read_section(data)
        read_splice(data)
    except InvalidData:
        return
    written = write_section(info)
    assert read_section(written) == info


def _read_script(name: str, values: Values) -> None:
    try:
        found = read_script_splice(name, values, 5_000)
    except InvalidData:
        return
    if found is not None:
        assert abs(found.at) <= 3_600_000
        assert len(found.splice.id) <= 128
        assert found.splice.seconds is None or 0 < found.splice.seconds <= 3_600_000
        read_section(found.splice.section)
