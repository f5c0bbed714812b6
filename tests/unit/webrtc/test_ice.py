"""The ICE state of one peer: credentials, nomination, roles, checks, consent; bytes before an address is verified."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocols.errors import RemoteProtocolError
from gateway.protocols.stun.message import Attribute, StunKind, StunMessage, parse, write
from gateway.webrtc.ice import MAX_PATHS, IceAgent, IceCredentials, check_credentials, new_credentials
from gateway.webrtc.paths import Path

LOCAL, REMOTE = IceCredentials("ours", "our password"), IceCredentials("theirs", "their password")


class MemoryPath(Path):
    protocol = "udp"

    def __init__(self, port: int = 1) -> None:
        super().__init__("192.0.2.9", port, 0.0)
        self.sent: list[bytes] = []

    def _write(self, datagrams: Sequence[bytes]) -> int:
        self.sent += datagrams
        return len(datagrams)


def request(
    *extra: tuple[int, bytes], user: str = "ours:theirs", password: str = LOCAL.password, nominates: bool = False
) -> StunMessage:
    attributes = [(int(Attribute.USERNAME), user.encode()), (int(Attribute.ICE_CONTROLLING), bytes(8)), *extra]
    if nominates:
        attributes.append((Attribute.USE_CANDIDATE, b""))
    return parse(write(StunKind.REQUEST, os.urandom(12), attributes, password))


def agent() -> IceAgent:
    return IceAgent(LOCAL, REMOTE, 0.0)


def with_path(ice: IceAgent, port: int = 1) -> MemoryPath:
    path = MemoryPath(port)
    ice.add(path)
    return path


def answer_to(check: bytes | None, password: str = REMOTE.password) -> StunMessage:
    assert check is not None
    return parse(write(StunKind.SUCCESS, parse(check).transaction, [], password))


def test_a_check_is_answered_with_its_address() -> None:
    ice = agent()
    path, message = with_path(ice), request()
    assert ice.authenticates(message)
    answer = parse(ice.handle_request(message, path, 3.0))
    assert answer.kind == StunKind.SUCCESS and answer.transaction == message.transaction
    assert answer.is_signed_by(LOCAL.password)
    assert Attribute.XOR_MAPPED_ADDRESS in answer.attributes
    assert ice.selected is path and ice.heard == 3.0


@pytest.mark.parametrize(
    "message",
    [
        request(password="wrong"), request(user="ours:other"), request(user="other:theirs"),
        parse(bytes.fromhex("000100002112a442") + bytes(12)),
    ],
)  # fmt: skip
def test_wrong_credentials_are_not_authentic(message: StunMessage) -> None:
    assert not agent().authenticates(message)


def test_a_controlled_peer_gets_a_role_conflict() -> None:
    ice = agent()
    path = with_path(ice)
    message = parse(
        write(StunKind.REQUEST, bytes(12), [(Attribute.USERNAME, b"ours:theirs"), (Attribute.ICE_CONTROLLED, bytes(8))],
              LOCAL.password)
    )  # fmt: skip
    answer = parse(ice.handle_request(message, path, 1.0))
    assert answer.error_code == 487 and answer.is_signed_by(LOCAL.password)
    assert ice.selected is None and ice.heard == 0.0


def test_an_unknown_required_attribute_is_named_in_the_answer() -> None:
    ice = agent()
    answer = parse(ice.handle_request(request((0x7001, b"")), with_path(ice), 1.0))
    assert answer.error_code == 420
    assert answer.attributes[Attribute.UNKNOWN_ATTRIBUTES] == b"\x70\x01"


def test_the_last_nominated_verified_path_is_selected() -> None:
    ice = agent()
    first, second = with_path(ice), with_path(ice, 2)
    ice.handle_request(request(nominates=True), first, 1.0)
    ice.mark_verified(first, 0.0)
    ice.handle_request(request(), second, 2.0)
    assert ice.selected is first, "not nominated"
    ice.handle_request(request(nominates=True), second, 3.0)
    assert ice.selected is first, "not verified"
    ice.mark_verified(second, 0.0)
    assert ice.selected is second
    ice.handle_request(request(nominates=True), first, 4.0)
    assert ice.selected is first


def test_our_check_verifies_a_path_and_measures_the_round_trip() -> None:
    ice = agent()
    path = with_path(ice)
    path.received(500)
    ice.handle_request(request(), path, 1.0)
    check = ice.due_check(path, 1.0)
    message = answer_to(check)
    assert parse(check or b"").is_signed_by(REMOTE.password)
    assert parse(check or b"").username == ("theirs", "ours")
    assert Attribute.ICE_CONTROLLED in parse(check or b"").attributes
    assert ice.handle_response(message, path, 1.25)
    assert path.verified and ice.round_trip == 0.25 and ice.heard == 1.25
    assert not ice.handle_response(message, path, 1.3), "a repeated answer"


@pytest.mark.parametrize("damage", ["password", "transaction", "path", "kind"])
def test_a_forged_answer_verifies_nothing(damage: str) -> None:
    ice = agent()
    path, other = with_path(ice), with_path(ice, 2)
    path.received(500)
    message = answer_to(ice.due_check(path, 1.0), "wrong" if damage == "password" else REMOTE.password)
    if damage == "transaction":
        message = parse(write(StunKind.SUCCESS, os.urandom(12), [], REMOTE.password))
    if damage == "kind":
        message = parse(write(StunKind.ERROR, message.transaction, [], REMOTE.password))
    assert not ice.handle_response(message, other if damage == "path" else path, 1.1)
    assert not path.verified and not other.verified


def test_checks_are_repeated_with_growing_pauses_and_without_a_round_trip() -> None:
    ice = agent()
    path = with_path(ice)
    path.received(100_000)
    at, times = 0.0, []
    checks = []
    while at < 7.0:
        if (check := ice.due_check(path, at)) is not None:
            times.append(round(at, 2))
            checks.append(check)
        at += 0.05
    assert [parse(check).transaction for check in checks[:7]] == [parse(checks[0]).transaction] * 7
    pauses = [after - before for before, after in itertools.pairwise(times[:7])]
    assert pauses == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2], abs=0.1)
    assert ice.handle_response(answer_to(checks[0]), path, 7.0)
    assert ice.round_trip is None


def test_the_selected_path_is_checked_every_four_to_six_seconds() -> None:
    ice = agent()
    path, other = with_path(ice), with_path(ice, 2)
    ice.handle_request(request(nominates=True), path, 0.0)
    for each in (path, other):
        ice.mark_verified(each, 0.0)
    assert ice.handle_response(answer_to(ice.due_check(path, 0.0)), path, 0.1)
    sent = [0.0]
    for tenths in range(1, 1_000):
        if (check := ice.due_check(path, tenths / 10)) is not None:
            sent.append(tenths / 10)
            assert ice.handle_response(answer_to(check), path, tenths / 10 + 0.01)
    pauses = [after - before for before, after in itertools.pairwise(sent)]
    assert min(pauses) > 3.9 and max(pauses) < 6.2
    assert max(pauses) - min(pauses) > 0.3, "peers that began together do not stay together"
    assert ice.due_check(other, 200.0) is None


def test_only_answers_on_the_path_in_use_are_consent() -> None:
    ice = agent()
    path, other = with_path(ice), with_path(ice, 2)
    ice.handle_request(request(nominates=True), path, 0.0)
    ice.mark_verified(path, 1.0)
    ice.handle_request(request(), path, 10.0)
    other.received(500)
    assert ice.handle_response(answer_to(ice.due_check(other, 11.0)), other, 11.1)
    assert (ice.heard, ice.consented) == (11.1, 1.0)
    assert ice.handle_response(answer_to(ice.due_check(path, 12.0)), path, 12.1)
    assert ice.consented == 12.1
    ice.remove(path)
    assert ice.selected is other and ice.consented == 12.1, "the other path has time to answer"


def test_a_path_that_fell_silent_is_left_for_one_that_the_client_uses() -> None:
    """Checks of Firefox and pion nominate once. Later ones come from another address if a NAT has changed it."""
    ice = agent()
    before, after = with_path(ice), with_path(ice, 2)
    ice.handle_request(request(nominates=True), before, 0.0)
    ice.mark_verified(before, 0.0)
    for now in (4.0, 9.0):
        ice.handle_request(request(), after, now)
        ice.mark_verified(after, now)
        assert ice.selected is before, "it may be late"
    ice.handle_request(request(), after, 14.0)
    assert ice.selected is after
    ice.handle_request(request(), before, 15.0)
    assert ice.selected is before, "nominated, and alive"


def test_a_path_that_was_not_used_for_long_answers_again_before_it_is_used() -> None:
    ice = agent()
    used, left = with_path(ice), with_path(ice, 2)
    for path in (left, used):
        ice.handle_request(request(nominates=True), path, 0.0)
        ice.mark_verified(path, 0.0)
    ice.mark_verified(used, 40.0)
    ice.handle_request(request(nominates=True), left, 41.0)
    assert ice.selected is used and not left.verified
    left.received(500)
    assert ice.handle_response(answer_to(ice.due_check(left, 41.0)), left, 41.1)
    assert ice.selected is left


def test_a_restart_keeps_the_old_credentials_until_the_new_ones_are_used() -> None:
    ice = agent()
    path = with_path(ice)
    ice.restart(IceCredentials("ours2", "our password 2"), IceCredentials("theirs2", "their password 2"))
    old, new = request(), request(user="ours2:theirs2", password="our password 2")
    assert ice.authenticates(old) and ice.authenticates(new)
    assert not ice.authenticates(request(user="ours2:theirs", password="our password 2"))
    assert parse(ice.handle_request(old, path, 1.0)).is_signed_by(LOCAL.password)
    assert parse(ice.handle_request(new, path, 2.0)).is_signed_by("our password 2")
    assert not ice.authenticates(request()) and ice.authenticates(new)


def test_paths_are_bounded_and_the_selected_one_stays() -> None:
    ice = agent()
    first = with_path(ice)
    ice.handle_request(request(nominates=True), first, 0.0)
    ice.mark_verified(first, 0.0)
    for number in range(3 * MAX_PATHS):
        path = MemoryPath(number)
        path.heard = number + 1.0
        ice.add(path)
    assert len(ice.paths) == MAX_PATHS and first in ice.paths


def test_a_lost_path_is_replaced_by_another_verified_one() -> None:
    ice = agent()
    first, second = with_path(ice), with_path(ice, 2)
    ice.handle_request(request(nominates=True), first, 0.0)
    ice.mark_verified(first, 0.0)
    ice.mark_verified(second, 0.0)
    ice.remove(first)
    assert ice.selected is second
    ice.remove(second)
    assert ice.selected is None


@given(steps=st.lists(st.tuples(st.booleans(), st.integers(0, 1500)), max_size=50))
def test_an_unverified_path_never_gets_more_than_it_sent(steps: list[tuple[bool, int]]) -> None:
    path = MemoryPath()
    received = 0
    for is_received, size in steps:
        if is_received:
            path.received(size)
            received += size
        else:
            taken = path.send([bytes(size), bytes(size // 2)])
            assert 0 <= taken <= 2
        assert sum(map(len, path.sent)) <= received
    path.verified = True
    assert path.send([bytes(9000)] * 3) == 3


def test_a_verified_path_comes_before_a_nominated_one_that_is_not() -> None:
    ice = agent()
    nominated, other = with_path(ice, 0), with_path(ice, 1)
    user = f"{ice.local.ufrag}:{ice.remote.ufrag}"
    for path in (nominated, other):
        path.received(1_000)
        ice.handle_request(request(user=user, password=ice.local.password, nominates=path is nominated), path, 2)
    assert ice.selected is nominated
    check = ice.due_check(other, 3)
    assert check is not None
    assert ice.handle_response(answer_to(check, ice.remote.password), other, 4)
    assert ice.selected is other
    check = ice.due_check(nominated, 5)
    assert check is not None
    assert ice.handle_response(answer_to(check, ice.remote.password), nominated, 6)
    assert ice.selected is nominated


@given(data=st.data())
def test_any_order_of_events_keeps_the_selection_valid(data: st.DataObject) -> None:
    ice = agent()
    checks: list[tuple[MemoryPath, bytes]] = []
    for now in range(data.draw(st.integers(1, 40))):
        event = data.draw(st.sampled_from(["add", "request", "nominate", "check", "answer", "remove", "restart"]))
        paths = [path for path in ice.paths if isinstance(path, MemoryPath)]
        if event == "add" or not paths:
            with_path(ice, now)
            continue
        path = data.draw(st.sampled_from(paths))
        if event in ("request", "nominate"):
            path.received(100)
            user = f"{ice.local.ufrag}:{ice.remote.ufrag}"
            ice.handle_request(
                request(user=user, password=ice.local.password, nominates=event == "nominate"), path, now
            )
            assert ice.selected is not None
        elif event == "check" and (check := ice.due_check(path, now)) is not None:
            checks.append((path, check))
        elif event == "answer" and checks:
            to, check = checks.pop()
            if to in ice.paths:
                ice.handle_response(answer_to(check, ice.remote.password), to, now)
        elif event == "remove":
            ice.remove(path)
        elif event == "restart":
            ice.restart(new_credentials(), new_credentials())
        assert ice.selected is None or ice.selected in ice.paths
        if ice.selected is not None and not ice.selected.verified:
            assert not any(p.verified for p in ice.paths), "an unverified path before a verified one"


@pytest.mark.parametrize(
    ("ufrag", "password"),
    [
        ("abc", "x" * 22),
        ("abcd", "x" * 21),
        ("ab:d", "x" * 22),
        ("abcd", "x" * 21 + "\n"),
        ("a" * 257, "x" * 22),
        ("", ""),
    ],
)
def test_invalid_credentials_of_an_offer_are_refused(ufrag: str, password: str) -> None:
    with pytest.raises(RemoteProtocolError):
        check_credentials(ufrag, password)


def test_credentials_of_old_browsers_are_accepted() -> None:
    """Old versions of libwebrtc use more characters than RFC 8839 allows. The offer and the endpoint agree on them."""
    assert check_credentials("a_b=", "-" * 22).ufrag == "a_b="


def test_our_credentials_are_valid_and_differ() -> None:
    one, two = new_credentials(), new_credentials()
    assert check_credentials(one.ufrag, one.password) == one != two
