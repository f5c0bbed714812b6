"""The registration of bonded links: nothing is kept of a sender before its whole id came back."""

import pytest

from gateway.protocols.srt.srtla import NO_GROUP, GroupIds, SrtlaType, acknowledge, type_of

HALF = bytes(range(128))


def _packet(kind: SrtlaType, id: bytes) -> bytes:
    return kind.to_bytes(2, "big") + id


def test_a_sender_gets_an_id_which_is_valid_for_an_hour() -> None:
    ids = GroupIds()
    asked = _packet(SrtlaType.REG1, HALF + bytes(128))

    answer = ids.answer(asked, 10.0)

    assert answer is not None
    assert type_of(answer) == SrtlaType.REG2
    assert len(answer) == len(asked)
    assert ids.id_of(answer, 10.0) == ids.id_of(answer, 3700.0) == answer[2:]
    assert ids.id_of(answer, 3 * 3600.0) is None


def test_an_id_of_somebody_else_is_no_group() -> None:
    """BELABOX's sender asks so at first, to find a link that works."""
    ids, other = GroupIds(), GroupIds()
    stranger = other.answer(_packet(SrtlaType.REG1, HALF + bytes(128)), 10.0)
    assert stranger is not None

    assert ids.id_of(stranger, 10.0) is None
    assert ids.answer(stranger, 10.0) == NO_GROUP


@pytest.mark.parametrize(
    "datagram",
    [b"", b"\x92", b"\x92\x00", _packet(SrtlaType.REG1, bytes(255)), _packet(SrtlaType.REG1, bytes(257)), bytes(258)],
)
def test_other_packets_get_no_answer(datagram: bytes) -> None:
    ids = GroupIds()
    assert ids.answer(datagram, 10.0) is None
    assert ids.id_of(datagram, 10.0) is None


def test_an_acknowledgement_has_the_numbers_of_ten_packets() -> None:
    numbers = [n.to_bytes(4, "big") for n in range(10)]

    assert acknowledge(numbers) == b"\x91\0\0\0" + b"".join(numbers)


@pytest.mark.parametrize(("first", "kind"), [("9000", 0x9000), ("9211", 0x9211), ("8000", 0), ("7fff", 0), ("9300", 0)])
def test_packets_of_srt_have_no_type(first: str, kind: int) -> None:
    assert type_of(bytes.fromhex(first) + bytes(20)) == kind
