"""CMCD of strangers, totals of other nodes and the history's file: read, ignored, or ValueError."""

from __future__ import annotations

import contextlib

from gateway.diagnosis import cmcd
from gateway.diagnosis.experience import Experience, Totals
from gateway.diagnosis.history import History
from gateway.lib.metrics import Metrics


def _stored() -> bytes:
    history = History()
    history.node.add(1_800_000_000, {"cpu": 1.0})
    history.add_channel("c1", 1_800_000_000, {"viewers": 1.0})
    return b"".join(history.encode())


SEEDS = [
    b'bl=21300,br=3200,bs,cid="a,b",d=4004,ot=v,sf=h,sid="6e2fb550",st=l,su',
    b"CMCD=br%3D3200%2Cbs%2Csf%3Dd%2Csid%3D%226e2f%22%2Csu",
    b'br=(3200;v 128;a),bsa=(2),bsda=(900),ltc=1200,millrace-p=flv,millrace-h=720,msd=812,pb=(2800;v),sid="x",v=2',
    b"3_2_1500_4-1.5-2_7-3__8-1",
    b'bsa=(0),millrace-p=hls,millrace-page=embed,sid="x",v=2',
    b"3_2_1500_4-1_7-3__8-1_0-2.8-1",
    _stored(),
]
_TEXT = 1024


def fuzz(data: bytes) -> None:
    """Oracle: the promise of the module; numbers are not negative; totals stay readable."""
    text = data.decode("utf-8", "replace")
    found = (cmcd.parse(text), cmcd.read_query(text), cmcd.read_headers({"cmcd-session": text}))
    cmcd.is_start_or_stall(text, {"cmcd-request": text})
    experience = Experience(Metrics("1"), lambda: 0.0)
    for one in found:
        if one is None:
            continue
        numbers = (one.bitrate, one.startup, one.latency, one.stall_ms, one.stalls, one.stalled_ms, one.height)
        assert all(number is None or 0 <= number < 10**9 for number in numbers)
        assert len(one.protocol) <= 16
        experience.add("c1", "other", one)
    for totals in experience.of("c1").values():
        assert Totals.decode(totals.encode()).encode() == totals.encode()
    with contextlib.suppress(ValueError):
        Totals.decode(text[:_TEXT])
    try:
        history = History.decode(data)
    except ValueError:
        return
    assert b"".join(history.encode())
