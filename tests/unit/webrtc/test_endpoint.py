"""The endpoint and its peers without sockets: handshakes, bounds, floods, time limits and ends."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.ports.errors import AtCapacity
from gateway.protocols.errors import RemoteProtocolError
from gateway.protocols.sdp.offer import OfferedTransport
from gateway.protocols.stun.message import Attribute, StunKind, parse, write
from gateway.webrtc.certificate import DtlsCertificate, fingerprint_of
from gateway.webrtc.counters import Dropped
from gateway.webrtc.handler import PeerEnd
from gateway.webrtc.handshakes import MAX_WAITING
from gateway.webrtc.ice import MAX_PATHS
from tests.support.webrtc import GCM, Client, Recorder, Wire, receiver_report, rtp_packet

CLIENT = Client()


@pytest.mark.parametrize("profile", [GCM, b"SRTP_AEAD_AES_256_GCM", b"SRTP_AES128_CM_SHA1_80"])
@pytest.mark.parametrize("passive", [False, True])
async def test_media_go_both_ways(profile: bytes, passive: bool) -> None:
    wire = Wire()
    client, peer, recorder = await wire.connect(Client(profile, server=passive))
    assert recorder.was_connected == 1 and wire.endpoint.half_open == 0
    assert client.server_fingerprint == wire.endpoint.fingerprint
    packets = [rtp_packet(n, bytes(1000)) for n in range(9)] + [rtp_packet(9, b"short")]
    peer.send(packets)
    peer.send_rtcp(receiver_report(5))
    client.send_rtp(rtp_packet(1))
    client.send_rtcp(receiver_report())
    await wire.exchange()
    assert client.rtp == packets and client.rtcp == [receiver_report(5)]
    assert recorder.rtp_packets == [rtp_packet(1)] and recorder.rtcp_packets == [receiver_report()]
    assert wire.endpoint.counters.datagrams_out == 11
    assert peer.address == "192.0.2.77" and peer.protocol == "udp" and peer.round_trip == 0


async def test_gcm_with_128_bits_is_preferred() -> None:
    offered = b"SRTP_AES128_CM_SHA1_80:SRTP_AEAD_AES_256_GCM:SRTP_AEAD_AES_128_GCM"
    client, _, _ = await Wire().connect(Client(offered))
    assert client._dtls.get_selected_srtp_profile() == GCM


async def test_a_client_that_waits_for_the_handshake_may_have_an_rsa_key() -> None:
    """As `openssl req -x509 -newkey rsa` makes it, for `-cert_file` of ffmpeg."""
    key = rsa.generate_private_key(65537, 2048)
    name, now = x509.Name([]), datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now).not_valid_after(now + timedelta(days=1))
    certificate = builder.sign(key, hashes.SHA256())
    own = DtlsCertificate(cast(Any, key), certificate, fingerprint_of(certificate, "sha-256"))
    wire = Wire()
    client, _, recorder = await wire.connect(Client(server=True, certificate=own))
    client.send_rtp(rtp_packet(1))
    await wire.exchange()
    client.close()
    await wire.exchange()
    assert recorder.rtp_packets == [rtp_packet(1)] and recorder.ends == [PeerEnd.CLOSED_BY_PEER]


async def test_a_wrong_fingerprint_ends_the_peer_before_media() -> None:
    wire, client = Wire(), Client()
    peer, recorder = wire.open(client, fingerprint=("sha-256", Client().fingerprint[1]))
    for _ in range(4):
        client.send_check()
        await wire.exchange()
        wire.clock.now += 0.1
    assert recorder.ends == [PeerEnd.WRONG_FINGERPRINT] and not recorder.was_connected
    assert wire.endpoint.peers == 0 and peer.has_ended
    assert wire.endpoint._udp_routes == {} and wire.endpoint._peers == {}


async def test_without_a_common_profile_the_handshake_fails() -> None:
    wire, client = Wire(), Client(b"SRTP_AES128_CM_SHA1_32")
    _, recorder = wire.open(client)
    for _ in range(4):
        client.send_check()
        await wire.exchange()
        wire.clock.now += 0.1
    assert recorder.ends == [PeerEnd.HANDSHAKE_FAILED]


async def test_floods_of_unknown_addresses_allocate_and_answer_nothing() -> None:
    wire, client = Wire(), Client()
    peer, recorder = wire.open(client)
    peer.send([rtp_packet(1)])
    name = f"{peer.ufrag}:{client.ufrag}".encode()
    wrong = write(StunKind.REQUEST, os.urandom(12), [(Attribute.USERNAME, name)], "wrong")
    foreign = write(StunKind.REQUEST, os.urandom(12), [(Attribute.USERNAME, b"nobody:nothing")], peer.password)
    for number in range(300):
        for data in (wrong, foreign, rtp_packet(1), b"\x16\xfe\xfd" + bytes(50), b"", b"\0", bytes(2000)):
            wire.deliver(data, (f"198.51.100.{number % 250}", number))
    assert wire.udp.sent == [] and wire.endpoint._udp_routes == {} and peer.ice.paths == []
    assert not recorder.ends
    dropped = wire.endpoint.counters.dropped
    assert dropped[Dropped.UNAUTHORIZED] == 600
    assert dropped[Dropped.UNKNOWN_ADDRESS] == 900
    assert dropped[Dropped.MALFORMED] == 600


@pytest.mark.parametrize("answers", [True, False])
async def test_an_address_never_gets_more_than_it_sent_before_it_is_verified(answers: bool) -> None:
    wire, client = Wire(), Client(answers=answers)
    peer, recorder = wire.open(client)
    client.starts_dtls = False
    for _ in range(12):
        client.send_check()
        await wire.exchange()
        if not answers:
            assert client.received_bytes <= client.sent_bytes and peer.address == ""
        wire.clock.now += 0.3
        wire.endpoint.tick(wire.clock())
    client.start_dtls()
    await wire.exchange()
    if not answers:
        assert client.received_bytes <= client.sent_bytes
    for _ in range(20):
        client.send_check()
        await wire.exchange()
        wire.clock.now += 0.1
    assert recorder.was_connected == 1, "slower, but not locked out"
    assert peer.address


async def test_a_forged_nominated_address_gets_no_media() -> None:
    wire = Wire()
    client, peer, _ = await wire.connect()
    victim = ("203.0.113.9", 9)
    check = client.check()
    wire.deliver(check, victim)
    for number in range(50):
        peer.send([rtp_packet(number, bytes(1000))])
    to_victim = [data for address, data in wire.udp.sent if address == victim]
    assert sum(map(len, to_victim)) <= len(check)
    wire.udp.sent = [(address, data) for address, data in wire.udp.sent if address != victim]
    await wire.exchange()
    assert len(client.rtp) == 50


async def test_a_new_nominated_address_takes_over_after_its_answer() -> None:
    wire = Wire()
    client, peer, recorder = await wire.connect()
    client.address = ("192.0.2.78", 6000)
    for _ in range(3):
        client.send_check()
        await wire.exchange()
        wire.clock.now += 0.1
    assert peer.address == "192.0.2.78" and not recorder.ends
    peer.send([rtp_packet(1)])
    await wire.exchange()
    assert client.rtp == [rtp_packet(1)]


async def test_a_client_behind_a_nat_that_changes_its_address_keeps_its_media() -> None:
    wire = Wire()
    client, peer, recorder = await wire.connect()
    client.address = ("192.0.2.78", 6000)
    for _ in range(5):
        wire.clock.now += 4
        client.send_check(nominate=False)
        for _ in range(10):
            wire.endpoint.tick(wire.clock())
        await wire.exchange()
    peer.send([rtp_packet(1)])
    await wire.exchange()
    assert client.rtp == [rtp_packet(1)] and not recorder.ends


async def test_ffmpeg_behind_a_nat_that_changes_its_address_goes_on() -> None:
    """It answers no check while it sends, and ends itself if none of its own is answered."""
    wire = Wire()
    client, _, recorder = await wire.connect(Client(server=True), has_key=True)
    client.answers, client.address, answered = False, ("192.0.2.78", 6000), len(client.responses)
    client.send_check()
    client.send_rtp(rtp_packet(1))
    await wire.exchange()
    assert len(client.responses) == answered + 1
    assert recorder.rtp_packets == [rtp_packet(1)]


async def test_addresses_of_one_peer_are_bounded() -> None:
    wire = Wire()
    client, peer, _ = await wire.connect()
    for number in range(50):
        wire.deliver(client.check(nominate=False), ("192.0.2.90", number + 1))
        wire.clock.now += 0.01
    assert len(peer.ice.paths) == len(wire.endpoint._udp_routes) == MAX_PATHS
    assert peer.address == "192.0.2.77"


async def test_another_peer_cannot_take_an_address_in_use() -> None:
    wire = Wire()
    first, peer, recorder = await wire.connect()
    second = Client()
    wire.open(second)
    wire.deliver(second.check(), first.address)
    assert wire.endpoint.counters.dropped[Dropped.ADDRESS_IN_USE] == 1
    client_packet = rtp_packet(1)
    first.send_rtp(client_packet)
    await wire.exchange()
    assert recorder.rtp_packets == [client_packet]
    wire.clock.now += 16
    wire.deliver(second.check(), first.address)
    assert peer.ice.paths == [] and peer.address == ""


async def test_replayed_and_forged_media_are_dropped_and_counted() -> None:
    wire = Wire()
    client, _, recorder = await wire.connect()
    sealed = client.send_rtp(rtp_packet(1))
    await wire.exchange()
    for data in (
        sealed,
        sealed[:-1] + bytes((sealed[-1] ^ 1,)),
        sealed[:12],
        rtp_packet(2),
        receiver_report(),
        b"\x80",
    ):
        wire.deliver(data, client.address)
    assert wire.endpoint.counters.dropped[Dropped.SRTP] == 6
    assert recorder.rtp_packets == [rtp_packet(1)] and not recorder.rtcp_packets and not recorder.ends
    wire.deliver(b"\x50" + bytes(20), client.address)
    wire.deliver(b"", client.address)
    assert wire.endpoint.counters.dropped[Dropped.MALFORMED] == 1


async def test_media_before_the_handshake_are_dropped() -> None:
    wire, client = Wire(), Client()
    client.starts_dtls = False
    peer, recorder = wire.open(client)
    client.send_check()
    await wire.exchange()
    wire.deliver(rtp_packet(1), client.address)
    peer.send([rtp_packet(1)])
    peer.send_rtcp(receiver_report())
    dropped = wire.endpoint.counters.dropped
    assert (dropped[Dropped.EARLY], dropped[Dropped.NOT_CONNECTED]) == (1, 2)
    assert not recorder.rtp_packets and wire.udp.sent == []


async def test_1000_half_open_peers_are_bounded_and_end_in_time() -> None:
    wire = Wire(half_open=1000, half_open_per_address=0)
    opened = [wire.endpoint.open_peer(CLIENT.offer, Recorder(), "192.0.2.1") for _ in range(1001)]
    assert all(peer._dtls is None for peer in opened), "a peer without a client has no session"
    assert opened[0].has_ended and wire.endpoint.counters.ended[PeerEnd.REPLACED] == 1
    wire.clock.now += 9.9
    wire.endpoint.tick(wire.clock())
    assert wire.endpoint.half_open == 1000
    wire.clock.now += 0.2
    wire.endpoint.tick(wire.clock())
    assert wire.endpoint.half_open == wire.endpoint.peers == 0 and wire.endpoint._peers == {}
    assert wire.endpoint.counters.ended[PeerEnd.CONNECT_TIMEOUT] == 1000


async def test_a_viewer_that_sends_checks_stays_while_strangers_fill_all_places() -> None:
    wire = Wire(half_open=2)
    client, strangers = Client(), [Client() for _ in range(4)]
    _, recorder = wire.open(client)
    ended = [wire.open(strangers[0])[1]]
    wire.deliver(client.check(), client.address)
    ended += [wire.open(stranger)[1] for stranger in strangers[1:]]
    assert [one.ends for one in ended] == [[PeerEnd.REPLACED]] * 3 + [[]]
    assert not recorder.ends and wire.endpoint.half_open == 2


@pytest.mark.parametrize("bound", [{"half_open": 2}, {"half_open_per_address": 2}, {"peers": 10}])
async def test_a_push_is_accepted_when_viewers_use_all_places(bound: dict[str, int]) -> None:
    wire, address = Wire(**bound), "192.0.2.77"
    if "peers" in bound:
        for _ in range(9):
            await wire.connect()
        with pytest.raises(AtCapacity):
            wire.endpoint.open_peer(CLIENT.offer, Recorder(), address)
    else:
        for _ in range(2):
            wire.open(Client())
    pushes = [Recorder() for _ in range(1 if "peers" in bound else 2)]
    peers = [wire.endpoint.open_peer(CLIENT.offer, push, address, has_key=True) for push in pushes]
    if "half_open" in bound:
        with pytest.raises(AtCapacity):
            wire.endpoint.open_peer(CLIENT.offer, Recorder(), address)
    assert not [push for push in pushes if push.ends], "a push makes no room for a viewer"
    for peer in peers:
        peer.close()
    assert wire.endpoint._half_open_by_address[address] == wire.endpoint.half_open, "a refused viewer is not counted"


async def test_half_open_peers_of_an_address_are_bounded() -> None:
    wire = Wire(half_open_per_address=2)
    await wire.connect()
    peers = [wire.endpoint.open_peer(CLIENT.offer, Recorder(), "192.0.2.77") for _ in range(2)]
    with pytest.raises(AtCapacity):
        wire.endpoint.open_peer(CLIENT.offer, Recorder(), "192.0.2.77")
    wire.endpoint.open_peer(CLIENT.offer, Recorder(), "192.0.2.78")
    peers[0].close()
    wire.endpoint.open_peer(CLIENT.offer, Recorder(), "192.0.2.77")


async def test_all_peers_are_bounded() -> None:
    wire = Wire(peers=1)
    await wire.connect()
    with pytest.raises(AtCapacity):
        wire.endpoint.open_peer(CLIENT.offer, Recorder(), "192.0.2.1")


async def test_waiting_handshakes_are_bounded() -> None:
    wire, clients = Wire(half_open_per_address=0), [Client() for _ in range(3)]
    for client in clients:
        client.starts_dtls = False
        wire.open(client)
        client.send_check()
    await wire.exchange()
    for client in clients:
        for _ in range(20):
            wire.deliver(b"\x16\xfe\xfd" + bytes(60), client.address)
    assert len(wire.endpoint.handshakes) == 24
    assert wire.endpoint.counters.dropped[Dropped.HANDSHAKES] == 36
    while wire.endpoint.handshakes.add(lambda: None):
        assert len(wire.endpoint.handshakes) <= MAX_WAITING
    wire.deliver(b"\x16\xfe\xfd" + bytes(60), clients[0].address)
    assert wire.endpoint.counters.dropped[Dropped.HANDSHAKES] == 37
    await wire.exchange()


async def test_an_endless_handshake_ends() -> None:
    wire, client = Wire(), Client()
    client.starts_dtls = False
    _, recorder = wire.open(client)
    client.send_check()
    await wire.exchange()
    for _ in range(60):
        wire.deliver(b"\x17\xfe\xfd" + bytes(1200), client.address)
        await wire.exchange()
    assert recorder.ends == [PeerEnd.HANDSHAKE_FAILED]


async def test_an_ice_restart_keeps_the_media_and_changes_the_credentials() -> None:
    wire = Wire()
    client, peer, recorder = await wire.connect()
    before = (peer.ufrag, peer.password)
    for generation in range(5):
        client.ufrag, client.password = f"new{generation}", os.urandom(12).hex()
        peer.restart(client.ufrag, client.password)
        assert len(wire.endpoint._peers) == 2
        client.answer(peer)
        peer.send([rtp_packet(generation)])
        client.send_check()
        await wire.exchange()
        wire.clock.now += 6
        wire.endpoint.tick(wire.clock())
        await wire.exchange()
    assert len(client.rtp) == 5 and (peer.ufrag, peer.password) != before
    assert client.responses[-1].kind == StunKind.SUCCESS
    client.remote = before
    client.out.clear()
    wire.deliver(client.check(), client.address)
    assert wire.endpoint.counters.dropped[Dropped.UNAUTHORIZED] == 1
    peer.close()
    assert wire.endpoint._peers == {} and recorder.ends == [PeerEnd.CLOSED]


async def test_malformed_credentials_are_refused() -> None:
    wire = Wire()
    client, peer, _ = await wire.connect()
    with pytest.raises(RemoteProtocolError):
        peer.restart("x", "y")
    with pytest.raises(RemoteProtocolError):
        wire.endpoint.open_peer(OfferedTransport("x", "y", client.fingerprint), Recorder(), "192.0.2.1")
    assert wire.endpoint.half_open == 0


@pytest.mark.parametrize(("has_key", "seconds"), [(False, 30), (True, 50)], ids=["viewer", "publisher"])
async def test_a_peer_that_answers_no_check_ends_after_its_consent(has_key: bool, seconds: int) -> None:
    """A viewer's own checks do not count, because its media may go to an address that never answers."""
    wire = Wire(consent_timeout=30)
    client, peer, recorder = await wire.connect(has_key=has_key)
    client.answers = False
    for passed in range(1, seconds + 1):
        assert not recorder.ends
        wire.clock.now += 1
        if passed <= 20:
            wire.deliver(client.check(nominate=False), ("192.0.2.99", 9))
            wire.deliver(client.check(), client.address)
        for _ in range(10):
            wire.endpoint.tick(wire.clock())
    assert recorder.ends == [PeerEnd.CONSENT_EXPIRED] and peer.has_ended


async def test_several_checks_are_sent_within_a_short_consent_time() -> None:
    wire = Wire(consent_timeout=6)
    client, _, recorder = await wire.connect()
    for _ in range(60):
        wire.clock.now += 1
        for _ in range(10):
            wire.endpoint.tick(wire.clock())
        await wire.exchange()
    assert not recorder.ends and len(client.requests) > 20


async def test_our_own_checks_keep_the_consent_of_a_peer_that_answers() -> None:
    wire = Wire()
    _, _, recorder = await wire.connect()
    for _ in range(60):
        wire.clock.now += 2
        for _ in range(10):
            wire.endpoint.tick(wire.clock())
        await wire.exchange()
    assert not recorder.ends


@pytest.mark.parametrize("passive", [False, True])
@pytest.mark.parametrize("settled", [False, True])
@pytest.mark.parametrize("by_us", [False, True])
async def test_both_sides_close_with_close_notify(settled: bool, by_us: bool, passive: bool) -> None:
    wire = Wire()
    client, peer, recorder = await wire.connect(Client(server=passive))
    if settled:
        client.send_rtcp(receiver_report())
        await wire.exchange()
    assert (peer._dtls is None) == settled
    (peer if by_us else client).close()
    await wire.exchange()
    assert client.closed
    assert recorder.ends == [PeerEnd.CLOSED if by_us else PeerEnd.CLOSED_BY_PEER]
    peer.close()
    peer.send([rtp_packet(1)])
    assert len(recorder.ends) == 1 and wire.endpoint._udp_routes == {}


async def test_the_session_of_the_handshake_is_freed_after_some_seconds() -> None:
    wire = Wire()
    _, peer, _ = await wire.connect()
    assert peer._dtls is not None
    wire.clock.now += 10
    wire.endpoint.tick(wire.clock())
    assert peer._dtls is None and peer._alerts is not None


async def test_a_lost_last_flight_is_sent_again() -> None:
    wire, client = Wire(), Client()
    _, recorder = wire.open(client)
    client.starts_dtls = False
    for _ in range(6):
        client.send_check()
        await wire.exchange()
        wire.clock.now += 0.1
    client.start_dtls()
    while not recorder.was_connected:
        sent, client.out = client.out, []
        for data in sent:
            wire.deliver(data, client.address)
        while len(wire.endpoint.handshakes):
            await asyncio.sleep(0)
        answers, wire.udp.sent = wire.udp.sent, []
        if not recorder.was_connected:
            for _, data in answers:
                client.receive(data)
    assert not client.connected, "our last flight was lost"
    await asyncio.sleep((client._dtls.DTLSv1_get_timeout() or 0) + 0.01)  # 1 s on the clock of OpenSSL
    client.retransmit()
    assert client.out
    await wire.exchange()
    assert client.connected and recorder.was_connected == 1


async def test_a_passive_client_that_answers_nothing_ends_in_time_and_gets_no_more_than_it_sent() -> None:
    wire, client = Wire(), Client(server=True, answers=False)
    _, recorder = wire.open(client)
    client.send_check()
    sent, client.out = client.out, []
    wire.deliver(sent[0], client.address)
    received = sum(len(data) for _, data in wire.udp.sent)
    assert received <= len(sent[0])
    for _ in range(120):
        wire.clock.now += 0.1
        wire.endpoint.tick(wire.clock())
    assert recorder.ends == [PeerEnd.CONNECT_TIMEOUT]
    assert sum(len(data) for _, data in wire.udp.sent) <= len(sent[0])


async def test_a_passive_client_that_starts_the_handshake_fails() -> None:
    wire, client = Wire(), Client()
    _, recorder = wire.open(client, passive=True)
    for _ in range(4):
        client.send_check()
        await wire.exchange()
        wire.clock.now += 0.1
    assert recorder.ends == [PeerEnd.HANDSHAKE_FAILED]


async def test_a_publisher_that_sends_one_check_and_waits_for_the_handshake_gets_one() -> None:
    """RootEncoder 2.8 (Android) offers `actpass`, and is a DTLS server whatever the answer says."""
    wire, client = Wire(), Client(server=True)
    _, recorder = wire.open(client, has_key=True, passive=False)
    client.send_check(nominate=False)
    await wire.exchange()
    assert client.responses and client.requests, "it sends one check, and waits for the answer and for ours"
    for tenths in range(60):
        if tenths == 30:
            client.send_check()
        await wire.exchange()
        wire.clock.now += 0.1
        wire.endpoint.tick(wire.clock())
        assert recorder.was_connected == (tenths >= 51), f"the path was chosen {tenths / 10 - 3} s ago"
    client.send_rtp(rtp_packet(1))
    await wire.exchange()
    assert recorder.rtp_packets == [rtp_packet(1)] and not recorder.ends


async def test_a_publisher_that_begins_the_handshake_late_is_answered() -> None:
    wire, client = Wire(), Client()
    _, recorder = wire.open(client, has_key=True)
    client.starts_dtls = False
    for _ in range(25):
        client.send_check()
        wire.clock.now += 0.1
        wire.endpoint.tick(wire.clock())
        wire.udp.sent = [(address, data) for address, data in wire.udp.sent if data[0] < 4]
        await wire.exchange()
    client.start_dtls()
    await wire.exchange()
    assert client.connected and recorder.was_connected == 1


async def test_a_client_that_ignores_checks_during_its_handshake_is_verified_before_it() -> None:
    """ffmpeg with dtls_active answers no more checks after the answer to its own check."""
    wire, client = Wire(), Client()
    _, recorder = wire.open(client, active=True)
    client.send_check()
    check, client.out = client.out, []
    wire.deliver(check[0], client.address)
    kinds = [parse(data).kind for _, data in wire.udp.sent]
    assert kinds == [StunKind.REQUEST], "our check, and no answer yet"
    for _ in range(4):
        client.send_check()
        await wire.exchange()
        wire.clock.now += 0.1
    assert recorder.was_connected == 1


async def test_media_that_come_together_with_the_end_of_the_handshake_are_kept() -> None:
    """ffmpeg is the DTLS server, and its first key frame follows its last flight at once."""

    class Eager(Client):
        def _flush(self) -> None:
            super()._flush()
            if self.connected and not self.rtcp:
                self.rtcp = [b"once"]
                for number in range(3):
                    self.send_rtp(rtp_packet(number))

    wire = Wire()
    _, _, recorder = await wire.connect(Eager(server=True), has_key=True)
    assert recorder.rtp_packets == [rtp_packet(number) for number in range(3)]


async def test_a_forged_packet_does_not_spoil_those_that_came_with_it() -> None:
    wire = Wire()
    client, _, recorder = await wire.connect()
    for number in range(5):
        client.send_rtp(rtp_packet(number))
    sealed, client.out = client.out, []
    sealed[2] = sealed[2][:-1] + bytes((sealed[2][-1] ^ 1,))
    sealed.insert(4, sealed[0])
    assert wire.deliver_all(sealed[:1], client.address), "its source is known from now on"
    assert wire.deliver_all(sealed[1:], client.address)
    assert recorder.rtp_packets == [rtp_packet(n) for n in (0, 1, 3, 4)]
    assert wire.endpoint.counters.dropped == {Dropped.SRTP: 2}


async def test_media_before_the_keys_or_from_strangers_are_dropped_and_counted() -> None:
    wire, client = Wire(), Client()
    client.starts_dtls = False
    wire.open(client)
    client.send_check()
    await wire.exchange()
    assert not wire.deliver_all([rtp_packet(1), rtp_packet(2)], client.address), "the path is not verified"
    assert not wire.deliver_all([rtp_packet(1)] * 3, ("198.51.100.9", 9))
    assert wire.endpoint.counters.dropped == {Dropped.EARLY: 2, Dropped.UNKNOWN_ADDRESS: 3}


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    kinds=st.lists(st.sampled_from(("rtp", "rtp", "rtp", "forged", "again", "rtcp", "check", "junk", "")), max_size=30),
    cuts=st.lists(st.integers(1, 16), min_size=30, max_size=30),
)
def test_a_batch_of_datagrams_has_the_same_effect_as_single_ones(kinds: list[str], cuts: list[int]) -> None:
    async def received(cuts: list[int]) -> tuple[object, ...]:
        wire = Wire()
        client, _, recorder = await wire.connect()
        datagrams = list[bytes]()
        for number, kind in enumerate(kinds):
            if kind in ("rtp", "forged", "again"):
                client.send_rtp(rtp_packet(number))
            elif kind == "rtcp":
                client.send_rtcp(receiver_report())
            elif kind == "check":
                client.send_check()
            else:
                client.out = [b"\x80" if kind else b""]
            [datagram], client.out = client.out, []
            datagrams += [datagram[:-1] + bytes((datagram[-1] ^ 1,)) if kind == "forged" else datagram]
            datagrams += [datagram] if kind == "again" else []
        at, sent = 0, len(wire.udp.sent)
        for size in [*cuts, len(datagrams)]:
            if datagrams[at : at + size]:
                wire.deliver_all(datagrams[at : at + size], client.address)
            at += size
        counters = wire.endpoint.counters
        answers = len(wire.udp.sent) - sent
        return recorder.rtp_packets, recorder.rtcp_packets, counters.dropped, counters.datagrams_in, answers

    assert asyncio.run(received(cuts)) == asyncio.run(received([1] * 60))


async def test_packets_may_wait_while_all_peers_are_patient() -> None:
    wire = Wire()
    may_delay_reads = wire.endpoint._may_delay_reads
    assert may_delay_reads(), "nobody is there"
    _, first, one = await wire.connect()
    _, second, other = await wire.connect()
    assert not may_delay_reads()
    one.tolerates_delay = True
    assert not may_delay_reads()
    other.tolerates_delay = True
    assert may_delay_reads()
    one.tolerates_delay = False
    assert not may_delay_reads()
    first.close()
    assert may_delay_reads()
    wire.open(Client(), Recorder())
    assert not may_delay_reads(), "a handshake waits"
    second.close()


async def test_a_handler_that_fails_ends_its_own_peer_only() -> None:
    class Failing(Recorder):
        def receive_rtp(self, packets: Sequence[bytes], arrivals: Sequence[float]) -> None:
            raise RuntimeError("a bug")

    wire, client = Wire(), Client()
    good, _, recorder = await wire.connect()
    wire.open(client, Failing())
    for _ in range(4):
        client.send_check()
        await wire.exchange()
        wire.clock.now += 0.1
    client.send_rtp(rtp_packet(1))
    good.send_rtp(rtp_packet(1))
    await wire.exchange()
    assert wire.endpoint.counters.ended == {PeerEnd.HANDLER_FAILED: 1}
    assert recorder.rtp_packets == [rtp_packet(1)]


async def test_a_full_kernel_buffer_drops_and_counts() -> None:
    wire = Wire()
    client, peer, _ = await wire.connect()
    wire.udp.full = True
    peer.send([rtp_packet(n) for n in range(9)])
    peer.send_rtcp(receiver_report())
    peer.send([rtp_packet(100, bytes(2000))])
    dropped = wire.endpoint.counters.dropped
    assert (dropped[Dropped.SEND_BUFFER], dropped[Dropped.UNSENDABLE]) == (10, 1)
    wire.udp.full = False
    peer.send([rtp_packet(3)])
    await wire.exchange()
    assert client.rtp == [rtp_packet(3)]


async def test_the_end_of_the_endpoint_ends_its_peers() -> None:
    wire = Wire()
    client, _, recorder = await wire.connect()
    peer, half = wire.open(Client())
    await wire.endpoint.close()
    assert recorder.ends == half.ends == [PeerEnd.SHUTDOWN]
    await wire.exchange()
    assert client.closed and peer.has_ended
    with pytest.raises(AtCapacity):
        wire.endpoint.open_peer(CLIENT.offer, Recorder(), "192.0.2.1")


async def test_rtcp_of_a_peer_is_bounded() -> None:
    wire = Wire()
    client, _, recorder = await wire.connect()
    for _ in range(3):
        before = len(recorder.rtcp_packets)
        for _ in range(300):
            client.send_rtcp(receiver_report())
        await wire.exchange()
        assert len(recorder.rtcp_packets) - before == 250
        wire.clock.now += 1
    assert wire.endpoint.counters.dropped == {Dropped.RTCP: 150}
    wire.clock.now += 1
    for _ in range(30):
        client.send_rtcp(receiver_report() + bytes((0x80, 204, 0, 247)) + bytes(988))
    await wire.exchange()
    assert len(recorder.rtcp_packets) == 750 + 25, "long ones count more"


async def test_a_role_conflict_is_answered_and_opens_no_media() -> None:
    wire, client = Wire(), Client()
    wire.open(client)
    client.send_check(role=Attribute.ICE_CONTROLLED)
    await wire.exchange()
    assert [message.error_code for message in client.responses] == [487]


async def test_an_indication_needs_no_answer() -> None:
    wire = Wire()
    client, _, _ = await wire.connect()
    wire.deliver(write(StunKind.INDICATION, bytes(12), [], "x"), client.address)
    assert wire.udp.sent == [] and not wire.endpoint.counters.dropped
    wire.deliver(write(StunKind.SUCCESS, bytes(12), [], "x"), client.address)
    assert wire.endpoint.counters.dropped[Dropped.UNAUTHORIZED] == 1


def test_candidates_begin_with_the_address_that_the_client_used() -> None:
    wire = Wire()
    assert [line.split()[4] for line in wire.endpoint.candidates("203.0.113.7")] == ["203.0.113.7"] * 2
    assert [line.split()[4] for line in wire.endpoint.candidates("localhost")] == ["127.0.0.1"] * 2
    assert [line.split()[4] for line in wire.endpoint.candidates("a name\r\na=b")] == ["127.0.0.1"] * 2


async def test_advertised_addresses_replace_all_others() -> None:
    wire = Wire(advertise=("203.0.113.1", "[2001:db8::5]", "localhost"))
    await wire.endpoint.start()
    lines = wire.endpoint.candidates("192.0.2.1")
    assert [line.split()[4] for line in lines[:2]] == ["203.0.113.1", "2001:db8::5"]
    await wire.endpoint.close()
