"""The last ten refusals of a channel with their reasons, protected from clients that guess ids."""

from __future__ import annotations

import pytest

from gateway.diagnosis.refusal_log import RefusalLog, newest
from gateway.ports.errors import RefusalReason
from gateway.ports.events import Event, EventType

NOW = 1_700_000_000.5


def refused(channel: str, reason: str = "wrong", peer: str = "192.0.2.7", time: float = NOW, **more: object) -> Event:
    data = {"peer": peer, "protocol": "rtmp", "reason": "NotAuthorized", "refusal": reason, **more}
    return Event(EventType.PUBLISH_REFUSED, time, channel, data)


def test_the_last_ten_refusals_are_kept_newest_first():
    log = RefusalLog()
    for n in range(12):
        log.listen(refused("c1", time=NOW + n))
    found = log.of("c1")
    assert [item["at"] for item in found] == [f"2023-11-14T22:13:{20 + n}.500Z" for n in range(11, 1, -1)]
    assert found[0] == {
        "at": "2023-11-14T22:13:31.500Z", "peer": "192.0.2.7", "protocol": "rtmp", "reason": "wrong",
    }  # fmt: skip


def test_a_refusal_of_an_expired_key_contains_its_expiry():
    log = RefusalLog()
    log.listen(refused("c1", "expired", expired=1_670_371_200))
    assert log.of("c1")[0]["expired"] == "2022-12-07T00:00:00.000Z"


def test_other_events_and_refusals_without_a_public_reason_are_ignored():
    log = RefusalLog()
    log.listen(Event(EventType.STREAM_STARTED, NOW, "c1", {"stream": "c1"}))
    data = {"peer": "192.0.2.7", "protocol": "rtmp", "reason": "StoreUnavailable"}
    log.listen(Event(EventType.PUBLISH_REFUSED, NOW, "c1", data))
    log.listen(refused(""))
    assert log.of("c1") == [] and len(log) == 0


def test_a_client_that_guesses_ids_displaces_only_its_own_refusals():
    log = RefusalLog(max_unsigned=10)
    log.listen(refused("c1", peer="192.0.2.7"))
    for n in range(1000):
        log.listen(refused(f"guess-{n}", peer="198.51.100.1"))
    assert len(log) == 10
    assert log.of("c1") and log.of("guess-999") and not log.of("guess-0")


def test_addresses_of_one_ipv6_network_count_as_one_client():
    log = RefusalLog(max_unsigned=10)
    log.listen(refused("c1", peer="192.0.2.7"))
    for n in range(100):
        log.listen(refused(f"guess-{n}", peer=f"2001:db8::{n:x}"))
    assert log.of("c1")


@pytest.mark.parametrize("reason", ["expired", "revoked", "in_use"])
def test_wrong_keys_never_displace_channels_with_genuine_keys(reason: str) -> None:
    log = RefusalLog(max_unsigned=5)
    log.listen(refused("c1", "missing", time=NOW - 1))
    log.listen(refused("c1", reason))
    for n in range(100):
        log.listen(refused(f"guess-{n}", peer=f"198.51.100.{n}"))
    assert [item["reason"] for item in log.of("c1")] == [reason, "missing"]


def test_channels_with_genuine_keys_are_bounded_too():
    log = RefusalLog(max_signed=3)
    for n in range(10):
        log.listen(refused(f"c{n}", "revoked"))
    assert len(log) == 3 and log.of("c9") and not log.of("c6")


def test_the_counts_of_client_addresses_stay_bounded():
    log = RefusalLog(max_unsigned=3)
    for n in range(100):
        log.listen(refused(f"c{n}", peer=f"198.51.100.{n}"))
    assert len(log._counts) == len(log._networks) == len(log) == 3


def test_the_refusals_of_several_nodes_are_merged():
    some = [{"at": "2030-01-01T00:00:02.000Z"}, {"at": "2030-01-01T00:00:00.000Z"}]
    others = [{"at": f"2030-01-01T00:00:01.{n:03d}Z"} for n in range(10)]
    merged = newest([*some, *others])
    assert len(merged) == 10 and merged[0] is some[0] and some[1] not in merged


def test_every_refusal_reason_can_be_logged():
    log = RefusalLog()
    for reason in RefusalReason:
        log.listen(refused("c1", str(reason)))
    assert {item["reason"] for item in log.of("c1")} == set(RefusalReason)
