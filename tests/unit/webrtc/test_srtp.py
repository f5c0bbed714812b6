"""SRTP: each profile, repeated, forged and late packets, and the number of sources."""

from __future__ import annotations

import os
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.webrtc import srtp_runs
from gateway.webrtc.srtp import MAX_SOURCES, SrtpReceiver, SrtpSender, keys_of, material_size
from gateway.webrtc.srtp_runs import MAX_PACKET, BatchOpener, RunProtector, batch_opener, run_protector
from tests.support.webrtc import GCM, receiver_report, rtp_packet

PROFILES = (GCM, b"SRTP_AEAD_AES_256_GCM", b"SRTP_AES128_CM_SHA1_80")


def pair(profile: bytes = GCM) -> tuple[SrtpSender, SrtpReceiver]:
    key = keys_of(profile, os.urandom(material_size(profile))).client
    return SrtpSender(profile, key), SrtpReceiver(profile, key)


@pytest.mark.parametrize("profile", PROFILES)
def test_packets_come_back_as_they_were(profile: bytes) -> None:
    sender, receiver = pair(profile)
    packets = [rtp_packet(n, bytes(100 + n)) for n in range(20)]
    sealed = sender.protect(packets)
    assert [receiver.unprotect(packet) for packet in sealed] == packets
    assert all(plain[12:] not in secret for plain, secret in zip(packets, sealed, strict=True))
    assert receiver.unprotect_rtcp(sender.protect_rtcp(receiver_report())) == receiver_report()


def cut(run: memoryview | None, size: int) -> list[bytes]:
    assert run is not None
    return [bytes(run[at : at + size]) for at in range(0, len(run), size)]


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("sizes", [[1], [100, 1], [300, 300, 300], [1188] * 46 + [5], [40] * 64])
def test_a_run_comes_back_as_its_packets_were(profile: bytes, sizes: list[int]) -> None:
    sender, receiver = pair(profile)
    packets = tuple(rtp_packet(number, bytes((number,)) * size) for number, size in enumerate(sizes))
    sealed = cut(sender.protect_run(packets), len(packets[0]) + sender.tag)
    assert [receiver.unprotect(packet) for packet in sealed] == list(packets)
    assert sender.protect(packets) == sealed, "sent again, byte for byte"


def test_all_peers_get_the_same_run_with_their_own_keys() -> None:
    pairs = [pair(profile) for profile in PROFILES * 2]
    runs = [tuple(rtp_packet(10 * run + n, os.urandom(90 + run)) for n in range(5)) for run in range(3)]
    for run in runs:
        for sender, receiver in pairs:
            sealed = cut(sender.protect_run(run), len(run[0]) + sender.tag)
            assert [receiver.unprotect(packet) for packet in sealed] == list(run)


def test_a_changed_list_of_packets_is_read_again() -> None:
    sender, receiver = pair()
    packets = [rtp_packet(1, b"one")]
    for number in range(1, 4):
        packets[0] = rtp_packet(number, b"%d" % number)
        assert receiver.unprotect(bytes(sender.protect_run(packets) or b"")) == packets[0]


@pytest.mark.parametrize(
    "sizes",
    [[10, 20], [20, 10, 20], [20, 10, 10], [20] * 65, [MAX_PACKET - 11], [MAX_PACKET - 12] * 48],
)
def test_packets_that_are_no_run_are_refused(sizes: list[int]) -> None:
    sender, _ = pair()
    assert sender.protect_run(tuple(rtp_packet(number, bytes(size)) for number, size in enumerate(sizes))) is None
    assert sender.protect_run((rtp_packet(1)[:11],)) is None


def test_a_run_with_a_packet_that_is_too_old_is_refused() -> None:
    sender, _ = pair()
    sender.protect([rtp_packet(number) for number in range(5000)])
    assert sender.protect_run((rtp_packet(5001), rtp_packet(3))) is None


@pytest.mark.parametrize("fault", ["missing", "wrong bytes", "no field"])
def test_an_incompatible_binding_is_not_used(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AttributeError(fault)

    if fault == "missing":
        monkeypatch.setattr(srtp_runs, "import_module", refuse)
    elif fault == "no field":
        monkeypatch.setattr(srtp_runs, "session_of", refuse)
    else:
        monkeypatch.setattr(RunProtector, "protect", lambda *_: memoryview(b"other"))
    run_protector.cache_clear()
    try:
        sender, receiver = pair()
        assert sender.protect_run((rtp_packet(1),)) is None
        assert [receiver.unprotect(packet) for packet in sender.protect([rtp_packet(1)])] == [rtp_packet(1)]
    finally:
        run_protector.cache_clear()


def test_keys_are_split_in_the_order_of_rfc_5764() -> None:
    keys = keys_of(GCM, bytes(range(56)))
    assert keys.client == bytes(range(16)) + bytes(range(32, 44))
    assert keys.server == bytes(range(16, 32)) + bytes(range(44, 56))


def test_a_repeated_packet_is_dropped() -> None:
    sender, receiver = pair()
    sealed = sender.protect([rtp_packet(1)])[0]
    assert receiver.unprotect(sealed) is not None
    assert receiver.unprotect(sealed) is None


def test_a_packet_sent_again_is_the_same_bytes() -> None:
    sender, _ = pair()
    packets = [rtp_packet(n) for n in range(1000)]
    first = sender.protect(packets)
    assert sender.protect([packets[3]]) == [first[3]]


def test_packets_that_are_too_old_or_too_long_are_left_out() -> None:
    sender, receiver = pair()
    sender.protect([rtp_packet(n) for n in range(5000)])
    good, late, long = rtp_packet(5000), rtp_packet(10), rtp_packet(5001, bytes(MAX_PACKET))
    sealed = sender.protect([late, good, long])
    assert [receiver.unprotect(packet) for packet in sealed] == [good]


@pytest.mark.parametrize("profile", PROFILES)
@given(
    picks=st.lists(st.tuples(st.integers(0, 30), st.sampled_from((0, 0, 0, 0, 1, 2, 3))), max_size=60),
    cuts=st.lists(st.integers(1, 20), min_size=60, max_size=60),
)
def test_a_batch_of_packets_is_opened_like_single_packets(
    profile: bytes, picks: list[tuple[int, int]], cuts: list[int]
) -> None:
    key = keys_of(profile, os.urandom(material_size(profile))).client
    sender, together, alone = SrtpSender(profile, key), SrtpReceiver(profile, key), SrtpReceiver(profile, key)
    sealed = sender.protect([rtp_packet(n, bytes(100 + n), ssrc=n % 3) for n in range(31)])
    packets = []
    for number, fault in picks:
        packet = sealed[number]
        forged = packet[:-1] + bytes((packet[-1] ^ 1,))
        packets.append((packet, forged, packet[: number % 12], packet + bytes(2_000))[fault])
    expected = [alone.unprotect(packet) for packet in packets]
    found: list[bytes | None] = []
    for size in cuts:
        if packets[len(found) : len(found) + size]:
            found += together.unprotect_all(packets[len(found) : len(found) + size])
    assert found == expected


@pytest.mark.parametrize("lacking", ["pylibsrtp", "srtp_unprotect"])
def test_packets_are_opened_one_by_one_without_the_binding(lacking: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Binding:
        """A binding of another pylibsrtp."""

    def other(name: str) -> object:
        if lacking == "pylibsrtp":
            raise ImportError(name)
        return type("Module", (), {"lib": Binding(), "ffi": Binding()})()

    monkeypatch.setattr(srtp_runs, "import_module", other)
    batch_opener.cache_clear()
    run_protector.cache_clear()
    try:
        assert batch_opener() is None
        sender, receiver = pair()
        sealed = sender.protect([rtp_packet(n) for n in range(3)])
        assert receiver.unprotect_all([*sealed, b"", sealed[0]]) == [*(rtp_packet(n) for n in range(3)), None, None]
    finally:
        batch_opener.cache_clear()
        run_protector.cache_clear()


def test_an_opener_that_opens_forged_packets_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def opens(self: BatchOpener, session: object, packets: Sequence[bytes]) -> list[bytes | None]:
        return list(packets)

    monkeypatch.setattr(BatchOpener, "unprotect", opens)
    batch_opener.cache_clear()
    try:
        assert batch_opener() is None
    finally:
        batch_opener.cache_clear()


@given(at=st.integers(0, 40), bit=st.integers(0, 7))
def test_a_changed_packet_is_dropped(at: int, bit: int) -> None:
    sender, receiver = pair()
    sealed = bytearray(sender.protect([rtp_packet(1, bytes(20))])[0])
    sealed[at % len(sealed)] ^= 1 << bit
    assert receiver.unprotect(bytes(sealed)) is None


@given(st.binary(max_size=200))
def test_any_bytes_are_dropped(data: bytes) -> None:
    _, receiver = pair()
    assert receiver.unprotect(data) is None
    assert receiver.unprotect_rtcp(data) is None


def test_more_sources_than_the_limit_are_dropped() -> None:
    sender, receiver = pair()
    sealed = sender.protect([rtp_packet(1, ssrc=n) for n in range(MAX_SOURCES + 5)])
    found = [receiver.unprotect(packet) for packet in sealed]
    assert found[:MAX_SOURCES] != [None] * MAX_SOURCES and found[MAX_SOURCES:] == [None] * 5
    assert receiver.unprotect(sender.protect([rtp_packet(2, ssrc=0)])[0]) is not None
