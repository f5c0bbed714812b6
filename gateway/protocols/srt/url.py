"""The address of a peer: `srt://host:port?streamid=&latency=&passphrase=&pbkeylen=`."""

from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote, urlsplit

from gateway.lib.numbers import read_integer
from gateway.protocols.srt.crypto import KEY_SIZES, PASSPHRASE
from gateway.protocols.srt.packets import MAX_STREAM_ID

MAX_LATENCY: Final = 60_000  # milliseconds
DEFAULT_LATENCY: Final = 120  # milliseconds, as of libsrt
_FIXED: Final = {"mode": "caller", "transtype": "live"}  # other values would need something else
_FIELDS: Final = frozenset(("streamid", "latency", "passphrase", "pbkeylen", *_FIXED))
# Options of ffmpeg, OBS and libsrt in addresses that people copy. We do what their usual values say.
_IGNORED: Final = frozenset(
    {
        *("pkt_size", "payload_size", "payloadsize", "timeout", "connect_timeout", "conntimeo", "linger"),
        *("tlpktdrop", "nakreport", "messageapi", "smoother", "congestion", "lossmaxttl", "minversion", "tsbpd"),
        *("maxbw", "inputbw", "oheadbw", "sndbuf", "rcvbuf", "send_buffer_size", "recv_buffer_size", "ffs", "mss"),
    }
)


@dataclass(frozen=True, slots=True)
class LatencyRange:
    """What we grant of the latency, in milliseconds. least: what we want. most: for a peer that wants more."""

    least: int = DEFAULT_LATENCY
    most: int = MAX_LATENCY


@dataclass(frozen=True, slots=True)
class SrtUrl:
    """The address of a peer. latency: at least, milliseconds; None: not given. key_size: bytes."""

    host: str
    port: int
    stream_id: str = field(default="", repr=False)
    latency: int | None = None
    passphrase: str = field(default="", repr=False)
    key_size: int = KEY_SIZES[0]


def parse_url(text: str) -> SrtUrl:
    """Returns the parts of an address. Raises ValueError with a text without secrets."""
    address, _, query = text.partition("?")
    parts = urlsplit(address)
    if parts.scheme != "srt" or not parts.hostname or not parts.port or parts.path not in ("", "/"):
        raise ValueError("expected srt://host:port?streamid=…")
    fields: dict[str, str] = {}
    for pair in query.split("&") if query else ():
        name, _, value = pair.partition("=")
        if name in _IGNORED:
            continue
        if name not in _FIELDS:
            raise ValueError(f"{name[:32]} is not a field of an SRT address")
        fields[name] = unquote(value)
    for name, only in _FIXED.items():
        if fields.get(name, only) != only:
            raise ValueError(f"only {name}={only} is supported")
    passphrase = fields.get("passphrase", "")
    if passphrase and not PASSPHRASE[0] <= len(passphrase.encode()) <= PASSPHRASE[1]:
        raise ValueError("a passphrase has 10 to 79 characters")
    key_size = _number(fields.get("pbkeylen") or "0", "pbkeylen", KEY_SIZES[-1]) or KEY_SIZES[0]
    if key_size not in KEY_SIZES:
        raise ValueError("pbkeylen is 16, 24 or 32")
    stream_id = fields.get("streamid", "")
    if len(stream_id.encode()) > MAX_STREAM_ID:
        raise ValueError(f"a stream id has at most {MAX_STREAM_ID} bytes")
    latency = _number(fields["latency"], "latency (milliseconds)", MAX_LATENCY) if fields.get("latency") else None
    return SrtUrl(parts.hostname, parts.port, stream_id, latency, passphrase, key_size)


def _number(text: str, name: str, most: int) -> int:
    number = read_integer(text, most)
    if number is None:
        raise ValueError(f"{name} is a whole number up to {most}")
    return number
