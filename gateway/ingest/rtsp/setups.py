"""How the packets of a session's tracks go: on channels of its connection, or over UDP."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from gateway.ingest.rtsp.udp import RtspUdp, UdpTrack
from gateway.protocols.rtsp.transport import TransportOffer, read_transport

_LAST_CHANNEL: Final = 6  # of a player: each combination of channels has a feed of its own


class Setups:
    """The tracks that a client has set up. All of them go one way.

    udp: the UDP ports; None: there are none. address: returns the client's.
    take: gets the number of a track, one of its datagrams, and whether that is RTCP. own: returns our address that the
    client has called; "": any.
    channels: that of RTP by the number of the track; RTCP has the next one. Over UDP, they only number the tracks.
    udp_tracks: by the number of the track; {}: they go on the connection.
    """

    def __init__(
        self,
        udp: RtspUdp | None,
        address: Callable[[], str],
        take: Callable[[int, bytes, bool], None],
        own: Callable[[], str] = lambda: "",
    ) -> None:
        self.udp = udp
        self._address, self._take, self._own = address, take, own
        self.channels: dict[int, int] = {}
        self.udp_tracks: dict[int, UdpTrack] = {}

    def __len__(self) -> int:
        return len(self.channels)

    def set_up(self, number: int, header: str, payload_type: int | None) -> str:
        """Sets up a track in the first way of a Transport header that is possible.

        A client may set up its tracks again in another way: ffmpeg does so when nothing came over UDP. Then the first
        track that it repeats makes the others be forgotten.

        payload_type: of the packets that the client will send; None: it plays. Returns the header of the answer; "" if
        no way is possible.
        """
        offers, is_again = read_transport(header, 2 * number), number in self.channels
        self._forget(number)
        written = self._first_way(number, offers, payload_type)
        if not written and is_again:
            self.clear()
            written = self._first_way(number, offers, payload_type)
        return f"{written};mode=record" if written and payload_type is not None else written

    def _first_way(self, number: int, offers: Sequence[TransportOffer], payload_type: int | None) -> str:
        for offer in offers:
            written = self._on_connection(number, offer.channel, payload_type) if offer.channel >= 0 else ""
            written = written or self._over_udp(number, offer, payload_type)
            if written:
                return written
        return ""

    def _on_connection(self, number: int, channel: int, payload_type: int | None) -> str:
        if self.udp_tracks:
            return ""
        taken = {n for channel in self.channels.values() for n in (channel, channel + 1)}
        fits = payload_type is not None or (channel % 2 == 0 and channel <= _LAST_CHANNEL)
        if not fits or taken & {channel, channel + 1}:  # RFC 2326 §12.39: the answer has the channels that count
            channel = next(n for n in range(0, 256, 2) if not taken & {n, n + 1})
        self.channels[number] = channel
        return f"RTP/AVP/TCP;unicast;interleaved={channel}-{channel + 1}"

    def _over_udp(self, number: int, offer: TransportOffer, payload_type: int | None) -> str:
        udp = self.udp
        if udp is None or not all(offer.ports) or len(self.channels) != len(self.udp_tracks):
            return ""
        track = UdpTrack(self._address(), list(offer.ports), payload_type, partial(self._take, number), self._own())
        if not udp.add(track):
            return ""
        self.udp_tracks[number], self.channels[number] = track, 2 * number
        ports = f"client_port={offer.ports[0]}-{offer.ports[1]};server_port={udp.port}-{udp.port + 1}"
        return f"RTP/AVP;unicast;{ports}"

    def _forget(self, number: int) -> None:
        self.channels.pop(number, None)
        track = self.udp_tracks.pop(number, None)
        if track is not None and self.udp is not None:
            self.udp.remove(track)

    def clear(self) -> None:
        """Forgets all tracks."""
        for number in list(self.channels):
            self._forget(number)
