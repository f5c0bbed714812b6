"""The handshake of a listener (§4.3.1): nothing is kept of a caller before its cookie came back."""

import os
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

from gateway.protocols.errors import RemoteProtocolError
from gateway.protocols.srt.connection import Agreement
from gateway.protocols.srt.crypto import WrongPassphrase
from gateway.protocols.srt.keys import ReceiveKeys, SendKeys, keys_of_caller
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
    SrtFlag,
    SrtHandshake,
    control,
    decode_text,
    encode_text,
    handshake_of,
    random_socket,
    refusal_type,
)
from gateway.protocols.srt.receive_buffer import WINDOW
from gateway.protocols.srt.url import MAX_LATENCY

_COOKIE_SECONDS: Final = 60.0  # of one cookie; the one before is valid too
_LIVE: Final = "live"
OUR_FLAGS: Final = (
    SrtFlag.TIMED_SENDER
    | SrtFlag.TIMED_RECEIVER
    | SrtFlag.CRYPT
    | SrtFlag.DROPS_LATE
    | SrtFlag.PERIODIC_NAK
    | SrtFlag.MARKS_RETRANSMITTED
)


class HandshakeRefused(Exception):
    """A handshake is refused. code: see Reject."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


@dataclass(frozen=True, slots=True)
class Conclusion:
    """A caller's conclusion with a valid cookie.

    stream_id: "" if the caller sends none. key_material: b"" if it does not encrypt. arrival: monotonic seconds.
    stamp: the packet's time stamp, microseconds.
    unsupported: why it is refused, which the owner of its stream learns; None: it is not.
    """

    handshake: SrtHandshake
    parameters: Parameters
    stream_id: str
    key_material: bytes
    arrival: float
    stamp: int
    unsupported: HandshakeRefused | None


class Cookies:
    """Makes and checks cookies: a keyed hash of the caller's address and of the minute. It keeps nothing."""

    def __init__(self) -> None:
        self._key = os.urandom(32)

    def make(self, address: tuple[object, ...], now: float, age: int = 0) -> int:
        """Returns the cookie of an address. now: seconds. age: of the minute: 0: this one, 1: the one before."""
        minute = int(now / _COOKIE_SECONDS) - age
        digest = blake2b(f"{address[0]} {address[1]} {minute}".encode(), digest_size=4, key=self._key).digest()
        return int.from_bytes(digest, "big")

    def is_valid(self, cookie: int, address: tuple[object, ...], now: float) -> bool:
        return any(cookie == self.make(address, now, age) for age in (0, 1))


def answer_induction(datagram: bytes, cookie: int) -> bytes | None:
    """Returns the answer to an induction; None for any other datagram. It is not longer than the induction."""
    handshake = handshake_of(datagram)
    if handshake is None or handshake.type != HandshakeType.INDUCTION:
        return None
    answer = SrtHandshake(
        5, 0, MAGIC, handshake.sequence, MTU, WINDOW, HandshakeType.INDUCTION, 1, cookie, handshake.address
    )
    return control(0, handshake.socket, 0, answer.encode())


def conclusion_of(datagram: bytes, arrival: float) -> Conclusion:
    """Reads a conclusion whose cookie was checked. Raises HandshakeRefused."""
    handshake = handshake_of(datagram)
    if handshake is None or handshake.type != HandshakeType.CONCLUSION:
        raise HandshakeRefused(Reject.ROGUE, "not a conclusion")
    if handshake.version != 5:
        raise HandshakeRefused(Reject.VERSION, "handshake version 4 is not supported: the peer needs SRT 1.3 or newer")
    try:
        parameters = Parameters.decode(handshake.find(HandshakeExtension.PARAMETERS_REQUEST) or b"")
        stream_id = decode_text(handshake.find(HandshakeExtension.STREAM_ID) or b"")
        unsupported = _unsupported(handshake, parameters)
    except RemoteProtocolError as error:
        raise HandshakeRefused(Reject.ROGUE, str(error)) from None
    _, _, stamp, _ = HEAD.unpack_from(datagram)
    return Conclusion(
        handshake, parameters, stream_id, handshake.find(HandshakeExtension.KEYS_REQUEST) or b"", arrival, stamp,
        unsupported,
    )  # fmt: skip


def _unsupported(handshake: SrtHandshake, parameters: Parameters) -> HandshakeRefused | None:
    """Returns the refusal of a caller that wants what is not supported. Raises RemoteProtocolError."""
    if parameters.flags & SrtFlag.STREAM:
        return HandshakeRefused(Reject.MESSAGE_MODE, "The encoder uses the buffer mode of SRT: set the live mode.")
    if decode_text(handshake.find(HandshakeExtension.CONGESTION) or encode_text(_LIVE)) != _LIVE:
        return HandshakeRefused(Reject.CONGESTION, "The encoder uses the file mode of SRT: set the live mode.")
    if handshake.find(HandshakeExtension.FILTER) is not None:
        return HandshakeRefused(Reject.FILTER, "The encoder uses FEC, a packet filter of SRT: switch it off.")
    if handshake.find(HandshakeExtension.GROUP) is not None:
        reason = "The encoder sends a group of SRT connections, which are not supported: send one, or use SRTLA."
        return HandshakeRefused(Reject.GROUP, reason)
    return None


def wrong_passphrase() -> HandshakeRefused:
    """Returns the refusal of a caller with a wrong passphrase."""
    return HandshakeRefused(Reject.BAD_SECRET, "The SRT passphrase is wrong: copy it from the channel again.")


def refuse(conclusion: SrtHandshake, code: int, stamp: int) -> bytes:
    """Returns the packet that refuses a conclusion."""
    answer = SrtHandshake(
        5, 0, 0, conclusion.sequence, conclusion.mtu, conclusion.window, refusal_type(code), 0, conclusion.cookie,
        conclusion.address,
    )  # fmt: skip
    return control(0, conclusion.socket, stamp, answer.encode())


def accept(
    conclusion: Conclusion, latency: float, passphrase: str, now: float, longest: float = MAX_LATENCY / 1000
) -> tuple[Agreement, bytes]:
    """Returns the agreement, and the answer to the caller. Raises HandshakeRefused, as for a wrong passphrase.

    latency: at least, seconds. passphrase: "": no encryption. It takes a millisecond with encryption.
    longest: latency of a caller that wants more, seconds. The caller decides how much waits for it in our memory.
    """
    if conclusion.unsupported is not None:
        raise conclusion.unsupported
    handshake, asked = conclusion.handshake, conclusion.parameters
    receive_keys, send_keys = _keys(conclusion.key_material, passphrase)
    ours, most = round(latency * 1000), round(longest * 1000)
    receive_latency = max(ours, min(most, asked.sender_latency))
    send_latency = max(ours, min(most, asked.receiver_latency))
    agreement = Agreement(
        socket=random_socket(),
        peer_socket=handshake.socket,
        first=handshake.sequence & MASK31,
        own_first=handshake.sequence & MASK31,  # libsrt: both directions begin with the number of the caller
        window=max(1, handshake.window),
        began=now,
        base=conclusion.arrival - conclusion.stamp * 1e-6,
        stamp=conclusion.stamp,
        receive_latency=receive_latency / 1000,
        send_latency=send_latency / 1000,
        receive_keys=receive_keys,
        send_keys=send_keys,
    )
    parameters = Parameters(VERSION, OUR_FLAGS, receive_latency, send_latency)
    extensions = [(int(HandshakeExtension.PARAMETERS), parameters.encode())]
    if conclusion.key_material:
        extensions.append((int(HandshakeExtension.KEYS), conclusion.key_material))
    answer = SrtHandshake(
        5,
        handshake.encryption,
        3 if conclusion.key_material else 1,
        agreement.own_first,
        min(MTU, handshake.mtu),
        WINDOW,
        HandshakeType.CONCLUSION,
        agreement.socket,
        handshake.cookie,
        handshake.address,
        extensions,
    )
    return agreement, control(0, handshake.socket, 0, answer.encode())


def _keys(material: bytes, passphrase: str) -> tuple[ReceiveKeys | None, SendKeys | None]:
    """Returns the keys of both directions. Raises HandshakeRefused."""
    if not material and not passphrase:
        return None, None
    if not material:
        raise HandshakeRefused(Reject.UNSECURE, "The SRT passphrase is missing: set that of the channel.")
    if not passphrase:
        raise HandshakeRefused(Reject.UNSECURE, "An SRT passphrase is set, but the channel has none: remove it.")
    try:
        return keys_of_caller(passphrase, material)
    except WrongPassphrase:
        raise wrong_passphrase() from None
    except RemoteProtocolError as error:
        raise HandshakeRefused(Reject.CRYPTO, str(error)) from None
