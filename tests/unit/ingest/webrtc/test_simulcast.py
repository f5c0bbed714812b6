"""Of the layers of simulcast, a received track takes the largest that comes (RFC 8853)."""

from __future__ import annotations

from gateway.ingest.webrtc.received_track import ReceivedTrack, track_parameters
from gateway.media.track import Kind
from gateway.protocols.rtp.packetizers.nal_units import H264Packetizer
from gateway.protocols.rtp.packetizers.packetizer import MAX_PAYLOAD
from gateway.protocols.rtp.timeline import RtpTimeline
from gateway.protocols.sdp.codec_choice import receiving_codec
from gateway.protocols.sdp.offer import parse_offer
from tests.support import builders
from tests.support.rtp_viewers import coded
from tests.unit.protocols.sdp.test_captured_offers import CAPTURED

OFFER = next(media for media in parse_offer(CAPTURED["chromium_whip_simulcast"]).media if media.kind == "video")
CODEC = receiving_codec(OFFER, ("H264",))
assert CODEC is not None
PARAMETERS = track_parameters(Kind.VIDEO, CODEC, OFFER)
PACKETIZER = H264Packetizer(builders.VIDEO.config)


class Sender:
    """Sends pictures of a layer, or the retransmission of one. ssrc: its own, unlike those of other layers."""

    def __init__(self, track: ReceivedTrack, name: str, ssrc: int) -> None:
        self._track, self.name, self._ssrc = track, name.encode(), ssrc
        self._sequence = self._picture = 0
        self.lost = (0, 0, b"")  # sequence number, timestamp and payload

    def _packet(self, kind: int, identifier: int, sequence: int, timestamp: int, payload: bytes, last: bool) -> bytes:
        name = bytes((identifier << 4 | len(self.name) - 1,)) + self.name if self.name else b""
        extension = name + bytes(-len(name) % 4)
        head = bytes((0x90, last << 7 | kind)) + sequence.to_bytes(2, "big") + timestamp.to_bytes(4, "big")
        words = (len(extension) // 4).to_bytes(2, "big")
        return head + self._ssrc.to_bytes(4, "big") + b"\xbe\xde" + words + extension + payload

    def send(self, now: float, *, key: bool = True, size: int = 300, loses: bool = False) -> int:
        """Sends one picture, without its first packet if that is lost. Returns how many units the track has made."""
        self._picture += 1
        unit = coded(self._picture * 33, key, size)
        packets = []
        parts = PACKETIZER.split(unit.payload, MAX_PAYLOAD, unit.key)
        for number, part in enumerate(parts):
            at, time, last = self._sequence + number, round(now * 90_000), part is parts[-1]
            packets.append(self._packet(PARAMETERS.codec.payload_type, PARAMETERS.rid, at, time, part, last))
        self.lost = (self._sequence, round(now * 90_000), parts[0]) if loses else (0, 0, b"")
        self._sequence += len(parts)
        packets = packets[loses:]
        return len(self._track.receive(packets, [now] * len(packets), now * 1000))

    def repair(self, lost: tuple[int, int, bytes], now: float) -> int:
        """Sends a lost packet again, in the stream of this layer. Returns how many units the track has made."""
        assert PARAMETERS.codec.rtx is not None
        sequence, time, part = lost
        payload = sequence.to_bytes(2, "big") + part
        packet = self._packet(PARAMETERS.codec.rtx, PARAMETERS.repaired_rid, 7, time, payload, False)
        return len(self._track.receive([packet], [now], now * 1000))


def begin() -> tuple[ReceivedTrack, Sender, Sender]:
    track = ReceivedTrack(PARAMETERS, RtpTimeline((90_000,)), 0)
    return track, Sender(track, "f", 1), Sender(track, "q", 3)


def test_the_layers_have_the_names_of_the_offer() -> None:
    assert (PARAMETERS.layers, PARAMETERS.rid, PARAMETERS.repaired_rid) == ((b"f", b"h", b"q"), 10, 11)


def test_the_largest_layer_is_taken_even_if_a_smaller_one_comes_first() -> None:
    track, full, quarter = begin()
    assert quarter.send(0.0) == 1
    assert full.send(0.001) == 1
    assert [quarter.send(0.03), full.send(0.031, key=False), quarter.send(0.06), full.send(0.061)] == [0, 1, 0, 1]
    assert track.ssrc == 1


def test_a_smaller_layer_serves_soon_after_the_largest_one_has_stopped() -> None:
    """Retransmitted packets of the largest layer, with which browsers probe the network, do not delay it."""
    track, full, quarter = begin()
    full.send(0.9)
    full.send(0.93, key=False, size=3_000, loses=True)
    made = 0
    for picture in range(20):
        now = 1.0 + picture / 30
        made += quarter.send(now)
        full.repair(full.lost, now)
        if made:
            break
    assert 1.35 < now < 1.5
    # The full layer is back. Its pictures count from its next key frame. Browsers name a sender only at first.
    full.name = b""
    assert [full.send(3.0, key=False), full.send(3.1), quarter.send(3.2)] == [0, 1, 0]
    assert track.ssrc == 1


def test_layers_whose_packets_arrive_together_do_not_replace_the_largest_one() -> None:
    track, full, quarter = begin()
    full.send(0.0)
    for picture in range(1, 31):
        assert [quarter.send(picture / 30), full.send(picture / 30, key=False)] == [0, 1]
    assert track.ssrc == 1


def test_an_interruption_of_all_layers_changes_no_layer() -> None:
    track, full, quarter = begin()
    full.send(0.0)
    assert quarter.send(0.01) == 0
    assert [quarter.send(0.6), full.send(0.61, key=False)] == [0, 1]
    assert track.ssrc == 1


def test_a_layer_of_few_pictures_serves_after_two_seconds() -> None:
    track, full, quarter = begin()
    full.send(0.0)
    assert [quarter.send(1.0), quarter.send(1.9)] == [0, 0]
    assert [quarter.send(2.1), quarter.send(2.2, key=False)] == [1, 1]
    assert track.ssrc == 3


def test_after_the_goodbye_of_a_layer_another_one_serves_at_once() -> None:
    track, full, quarter = begin()
    full.send(0.0)
    track.take_goodbye((3, 99))
    assert quarter.send(0.01) == 0
    track.take_goodbye((1,))
    assert not track.has_ended, "the sender may have stopped only this layer"
    assert quarter.send(0.02) == 1


def test_a_packet_without_a_name_of_a_layer_never_replaces_a_layer() -> None:
    track, full, _ = begin()
    nameless = Sender(track, "", 9)
    full.send(0.0)
    assert nameless.send(0.5) == 0
    assert nameless.send(2.6) == 1
    assert full.send(2.7) == 1


def test_retransmissions_of_other_layers_are_left_out() -> None:
    _, full, quarter = begin()
    full.send(0.0)
    assert full.send(0.03, key=False, size=3_000, loses=True) == 0
    number, time, _ = full.lost
    assert quarter.repair((number, time, b"\x41of another layer"), 0.04) == 0
    assert full.repair(full.lost, 0.05) == 1
