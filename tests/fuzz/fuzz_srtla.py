"""Packets of SRTLA senders: an answer is no longer than the packet, and a group needs an id that we made."""

from __future__ import annotations

from gateway.protocols.srt.srtla import GroupIds, SrtlaType, type_of

_HALF = bytes(range(128))
SEEDS = [
    SrtlaType.REG1.to_bytes(2, "big") + _HALF + bytes(128),
    SrtlaType.REG2.to_bytes(2, "big") + _HALF + bytes(128),
    SrtlaType.REG3.to_bytes(2, "big"),
    SrtlaType.KEEPALIVE.to_bytes(2, "big") + bytes(8),
    SrtlaType.ACK.to_bytes(2, "big") + bytes(42),
    b"\x80\x02\0\0" + bytes(20),
    bytes(1332),
]


def fuzz(data: bytes) -> None:
    """Oracle: see above."""
    ids = GroupIds()
    answer = ids.answer(data, 1.0)
    assert answer is None or len(answer) <= len(data)
    assert ids.id_of(data, 1.0) is None, "a new key makes other ids"
    if answer is not None and type_of(answer) == SrtlaType.REG2:
        assert ids.id_of(answer, 1.0) == answer[2:]
        assert answer[2:130] == data[2:130]
    assert type_of(data) == 0 or data[0] in (0x90, 0x91, 0x92)
