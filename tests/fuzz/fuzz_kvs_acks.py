"""PutMedia's acknowledgements: any bytes in any pieces are read or refused with RemoteProtocolError."""

from __future__ import annotations

from gateway.protocols.errors import RemoteProtocolError
from gateway.protocols.kvs import MAX_ACK, Ack, AckReader

SEEDS = (
    b'{"EventType":"PERSISTED","FragmentTimecode":1700000000123,"FragmentNumber":"91343852333181432392682062"}\r\n',
    b'{"Acknowledgement":{"EventType":"RECEIVED","FragmentTimecode":1800,"FragmentNumber":9134,"ErrorId":"0"}}',
    b'{"EventType":"ERROR","FragmentTimecode":7,"ErrorId":4006,"ErrorCode":"INVALID\\"}_MKV"}{"EventType":"IDLE"}',
)


def fuzz(data: bytes) -> None:
    """Oracle: the same acknowledgements whole and in pieces; what is kept is bounded; every ack can be acted on."""
    whole, pieces = _read([data]), _read([data[i : i + 5] for i in range(0, len(data), 5)])
    # What was read before a fault may be told or lost with it, depending on where the pieces end.
    assert whole[1] == pieces[1]
    if not whole[1]:
        assert whole[0] == pieces[0]


def _read(pieces: list[bytes]) -> tuple[list[Ack], bool]:
    reader = AckReader()
    acks: list[Ack] = []
    try:
        for piece in pieces:
            acks += reader.receive(piece)
            assert len(reader._pending) <= MAX_ACK
    except RemoteProtocolError:
        return acks, True
    for ack in acks:
        assert ack.description
        assert ack.action
        assert ack.timecode is None or 0 <= ack.timecode < 1 << 63
    return acks, False
