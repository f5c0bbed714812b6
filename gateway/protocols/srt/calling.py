"""Caller: the handshake of the side that opens a connection (§4.3.1)."""

import os
from dataclasses import dataclass, field
from typing import Final

from gateway.protocols.errors import RemoteProtocolError
from gateway.protocols.srt.connection import Agreement
from gateway.protocols.srt.crypto import BAD_SECRET, EVEN, KEY_SIZES, NO_SECRET, PayloadCipher, make_keys
from gateway.protocols.srt.keys import ReceiveKeys, SendKeys
from gateway.protocols.srt.listening import OUR_FLAGS, HandshakeRefused
from gateway.protocols.srt.packets import (
    HEAD,
    MAGIC,
    MASK31,
    MTU,
    VERSION,
    HandshakeExtension,
    HandshakeType,
    Parameters,
    Reject,
    SrtHandshake,
    control,
    encode_text,
    handshake_of,
    random_socket,
)
from gateway.protocols.srt.receive_buffer import WINDOW
from gateway.protocols.srt.url import MAX_LATENCY

REPEAT_SECONDS: Final = 0.25  # between two copies of a handshake packet without an answer, as in libsrt
_KEY_FAILURES: Final = {NO_SECRET: "the peer has no passphrase", BAD_SECRET: "wrong passphrase"}


@dataclass(slots=True, eq=False)
class Caller:
    """Opens a connection. Send `datagram` at once, and again every REPEAT_SECONDS, until `agreement` is set.

    latency: at least, seconds. key_size: bytes of the key, if there is a passphrase.
    longest: latency of a peer that wants more, seconds.
    datagram: the packet that the peer has to answer now.
    """

    stream_id: str
    latency: float
    began: float
    passphrase: str = ""
    key_size: int = KEY_SIZES[0]
    longest: float = MAX_LATENCY / 1000
    agreement: Agreement | None = field(default=None, init=False)
    datagram: bytes = field(default=b"", init=False)
    _socket: int = field(init=False)
    _sequence: int = field(init=False)
    _send_keys: SendKeys | None = field(default=None, init=False)
    _concluding: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self._socket = random_socket()
        self._sequence = int.from_bytes(os.urandom(4)) & MASK31
        if self.passphrase:
            salt, key = make_keys(self.key_size)
            self._send_keys = SendKeys(self.passphrase, salt, EVEN, key)
        request = SrtHandshake(4, 0, 2, self._sequence, MTU, WINDOW, HandshakeType.INDUCTION, self._socket, 0)
        self.datagram = control(0, 0, 0, request.encode())

    def receive(self, datagram: bytes, now: float) -> None:
        """Takes a datagram of the peer. Raises HandshakeRefused if the peer refuses."""
        handshake = handshake_of(datagram)
        # libsrt 1.3.0 and older answer a conclusion to socket 0.
        if handshake is None or HEAD.unpack_from(datagram)[3] not in (self._socket, 0 if self._concluding else -1):
            return
        if handshake.refusal:
            raise HandshakeRefused(handshake.refusal, f"reason {handshake.refusal}")
        if handshake.type == HandshakeType.INDUCTION and not self._concluding:
            self._conclude(handshake, now)
        elif handshake.type == HandshakeType.CONCLUSION and self._concluding and self.agreement is None:
            self._agree(handshake, HEAD.unpack_from(datagram)[2], now)

    def _conclude(self, induction: SrtHandshake, now: float) -> None:
        if induction.version != 5 or induction.extension != MAGIC:
            raise HandshakeRefused(Reject.VERSION, "the peer does not speak SRT 1.3 or newer")
        latency = round(self.latency * 1000)
        extensions = [
            (int(HandshakeExtension.PARAMETERS_REQUEST), Parameters(VERSION, OUR_FLAGS, latency, latency).encode())
        ]
        flags = 1
        if self._send_keys is not None:
            extensions.append((int(HandshakeExtension.KEYS_REQUEST), self._send_keys.material))
            flags |= 2
        if self.stream_id:
            extensions.append((int(HandshakeExtension.STREAM_ID), encode_text(self.stream_id)))
            flags |= 4
        encryption = self.key_size // 8 if self._send_keys is not None else 0
        request = SrtHandshake(
            5, encryption, flags, self._sequence, MTU, WINDOW, HandshakeType.CONCLUSION, self._socket,
            induction.cookie, extensions=extensions,
        )  # fmt: skip
        self._concluding = True
        self.datagram = control(0, 0, int((now - self.began) * 1e6), request.encode())

    def _agree(self, answer: SrtHandshake, stamp: int, now: float) -> None:
        try:
            parameters = Parameters.decode(answer.find(HandshakeExtension.PARAMETERS) or b"")
        except RemoteProtocolError as error:
            raise HandshakeRefused(Reject.ROGUE, str(error)) from None
        receive_keys = None
        if (keys := self._send_keys) is not None:
            confirmed = answer.find(HandshakeExtension.KEYS) or b""
            if confirmed in _KEY_FAILURES or not confirmed:
                raise HandshakeRefused(Reject.BAD_SECRET, _KEY_FAILURES.get(confirmed, "the peer does not encrypt"))
            receive_keys = ReceiveKeys(self.passphrase, PayloadCipher(keys.salt, {keys.kind: keys.key}))
        # Both sides have answered with what they want of each direction: the greater value wins, up to our bound.
        latency, most = round(self.latency * 1000), round(self.longest * 1000)
        self.agreement = Agreement(
            socket=self._socket,
            peer_socket=answer.socket,
            first=answer.sequence & MASK31,
            own_first=self._sequence,
            window=max(1, answer.window),
            began=self.began,
            base=now - stamp * 1e-6,
            stamp=stamp,
            receive_latency=max(latency, min(most, parameters.sender_latency)) / 1000,
            send_latency=max(latency, min(most, parameters.receiver_latency)) / 1000,
            receive_keys=receive_keys,
            send_keys=keys,
        )
