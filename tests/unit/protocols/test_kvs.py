"""Acknowledgements of PutMedia: objects cut and joined anywhere, flat and wrapped, and the action for each error."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocols.errors import RemoteProtocolError
from gateway.protocols.kvs import ERRORS, MAX_ACK, Ack, AckAction, AckEventType, AckReader
from tests.support.feeding import feed_all_ways

FLAT = b'{"EventType":"PERSISTED","FragmentTimecode":1700000000123,"FragmentNumber":"91343852333181432392682062"}'
WRAPPED = b'{"Acknowledgement":{"EventType":"RECEIVED","FragmentTimecode":1800,"FragmentNumber":9134,"ErrorId":"0"}}'
ERROR = b'{"EventType":"ERROR","FragmentTimecode":7,"ErrorId":4006,"ErrorCode":"INVALID_MKV_DATA"}'


def read(data: bytes) -> list[Ack]:
    return feed_all_ways(lambda: AckReader().receive, data)


def test_objects_are_read_however_they_are_cut_and_joined() -> None:
    assert read(FLAT + WRAPPED + b"\r\n" + ERROR + b" ,\n") == [
        Ack(AckEventType.PERSISTED, 1700000000123, "91343852333181432392682062"),
        Ack(AckEventType.RECEIVED, 1800, "9134"),
        Ack(AckEventType.ERROR, 7, "", 4006, "INVALID_MKV_DATA"),
    ]


def test_an_unfinished_object_waits_for_its_end() -> None:
    reader = AckReader()
    assert reader.receive(FLAT[:-1]) == []
    assert len(reader.receive(FLAT[-1:])) == 1


def test_braces_and_quotes_in_texts_do_not_end_an_object() -> None:
    text = json.dumps({"EventType": "IDLE", "ErrorCode": '}{"\\'}).encode()
    assert read(text + text) == [Ack(AckEventType.IDLE, code='}{"\\')] * 2


def test_the_field_name_of_the_documentation_is_read_too() -> None:
    assert read(b'{"AckEventType":"BUFFERING","FragmentTimecode":"5"}') == [Ack(AckEventType.BUFFERING, 5)]


def test_unknown_events_are_reported_as_other() -> None:
    assert read(b'{"EventType":"TRANSMUTED"}{"unrelated":1}') == [Ack(AckEventType.OTHER)]


@pytest.mark.parametrize(
    "data",
    [
        b"x", b"[]", b"{]}", b'{"a":}', b'{"EventType":"IDLE"}}', b"{" * 9, b'{"a":"' + b"x" * MAX_ACK,
        b'{"a":"' + b"x" * MAX_ACK + b'"}', b'{"a":"\xff"}',
    ],
)  # fmt: skip
def test_an_invalid_acknowledgement_is_a_remote_error(data: bytes) -> None:
    for pieces in ([data], [data[i : i + 1] for i in range(len(data))]):
        reader = AckReader()
        with pytest.raises(RemoteProtocolError):
            for piece in pieces:
                reader.receive(piece)


@pytest.mark.parametrize("value", [None, True, -1, 1.5, 1 << 63, "", "x", "9" * 30, [], {}])
def test_invalid_times_are_left_out(value: Any) -> None:
    (ack,) = read(json.dumps({"EventType": "RECEIVED", "FragmentTimecode": value}).encode())
    assert ack.timecode is None


def test_every_error_has_a_name_and_an_action() -> None:
    by_action = {action: {id for id, (_, found) in ERRORS.items() if found is action} for action in AckAction}
    assert by_action == {
        AckAction.RETRY: {4000, 4003, 5000, 5001},
        AckAction.DROP: {4001, 4002, 4004, 4005, 4006, 4007, 4009, 4010, 4011, 4012},
        AckAction.WAIT: {4008, *range(4500, 4508)},
    }
    assert Ack(AckEventType.ERROR, error=4006).action is AckAction.DROP
    assert Ack(AckEventType.ERROR, error=4500).action is AckAction.WAIT
    assert Ack(AckEventType.ERROR, code="MIN_FRAGMENT_DURATION_REACHED").action is AckAction.DROP
    assert Ack(AckEventType.ERROR, error=4999).action is AckAction.RETRY
    assert Ack(AckEventType.ERROR, error=4003).description == "4003 MAX_CONNECTION_DURATION_REACHED"


acks = st.fixed_dictionaries(
    {"EventType": st.sampled_from(list(AckEventType.__members__))},
    optional={
        "FragmentTimecode": st.integers(0, 1 << 60),
        "FragmentNumber": st.text(max_size=60),
        "ErrorCode": st.text(max_size=40),
        "ErrorId": st.integers(0, 9999),
    },
)


@given(st.lists(acks, max_size=5), st.lists(st.sampled_from(["", "\n", "\r\n", " , "]), min_size=5, max_size=5))
def test_random_acknowledgements_are_read_back(values: list[dict[str, Any]], between: list[str]) -> None:
    data = "".join(json.dumps(v) + gap for v, gap in zip(values, between, strict=False)).encode()
    got = read(data)
    assert [str(a.event) for a in got] == [v["EventType"] for v in values]
    assert [a.timecode for a in got] == [v.get("FragmentTimecode") for v in values]
    assert [a.error for a in got] == [v.get("ErrorId", 0) for v in values]
