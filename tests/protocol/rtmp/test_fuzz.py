"""The fuzz targets of RTMP, FLV and AMF over random bytes and over damaged captures of real clients."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.protocols.rtmp.chunk import ChunkReader
from tests.fuzz import fuzz_amf0, fuzz_flv, fuzz_rtmp

GOLDEN = Path(__file__).parents[2] / "golden" / "rtmp"
# What each target's format looks like: connections behind their handshake, bodies, commands and data.
CONNECTIONS = [path.read_bytes()[3073:9000] for path in sorted(GOLDEN.glob("*.bin"))]
MESSAGES = [message for data in CONNECTIONS for message in ChunkReader().receive(data)]
SEEDS: dict[Any, list[bytes]] = {
    fuzz_rtmp.fuzz: CONNECTIONS,
    fuzz_flv.fuzz: [m.payload[:400] for m in MESSAGES if m.type_id in (8, 9, 18)][:60],
    fuzz_amf0.fuzz: [m.payload for m in MESSAGES if m.type_id in (18, 20)],
}


def damaged(draw: Any, seed: bytes) -> bytes:
    data = bytearray(seed)
    for _ in range(draw(st.integers(0, 5))):
        if not data:
            break
        at = draw(st.integers(0, len(data) - 1))
        match draw(st.sampled_from(["set", "cut", "repeat", "insert"])):
            case "set":
                data[at] = draw(st.integers(0, 255))
            case "cut":
                del data[at : at + draw(st.integers(1, 64))]
            case "repeat":
                data[at:at] = data[at : at + draw(st.integers(1, 64))]
            case "insert":
                data[at:at] = draw(st.binary(max_size=16))
    return bytes(data)


@pytest.mark.parametrize("target", list(SEEDS), ids=["rtmp", "flv", "amf0"])
@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damaged_real_input_gives_documented_results(target: Any, data: st.DataObject) -> None:
    target(bytes((data.draw(st.integers(0, 255)),)) + damaged(data.draw, data.draw(st.sampled_from(SEEDS[target]))))


@pytest.mark.parametrize("target", list(SEEDS), ids=["rtmp", "flv", "amf0"])
@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=400))
def test_random_bytes_give_documented_results(target: Any, data: bytes) -> None:
    target(data)
