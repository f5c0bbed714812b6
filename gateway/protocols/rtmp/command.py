"""Reads and writes RTMP commands (§7.2), and the status objects that answer them."""

from dataclasses import dataclass

from gateway.formats import amf0
from gateway.media.errors import InvalidData
from gateway.media.track import AmfValue
from gateway.protocols.errors import RemoteProtocolError
from gateway.protocols.rtmp.message import COMMAND_AMF3, DATA_AMF3, Message

# Codecs that Ex bodies can carry. They are announced to publishers that ask ("Enhanced RTMP (V2)", connect).
# Mask: 1 decode, 2 encode, 4 forward.
VIDEO_FOURCCS = ("avc1", "hvc1", "av01", "vp09", "vp08")
AUDIO_FOURCCS = ("mp4a", ".mp3", "Opus", "fLaC", "ac-3", "ec-3")
CAN_FORWARD = 4
COMMAND_ITEMS = 1000  # limit of values in a command; a typical `connect` has about thirty
PULL_MARK = "millracePull"  # member of `connect`: the mark of a gateway's pull
CAPS_MULTITRACK, CAPS_MOD_EX = 2, 4  # capsEx: 1 reconnect, 2 multitrack, 4 ModEx, 8 nanosecond offsets


@dataclass(frozen=True, slots=True)
class Command:
    """name(object, *arguments).

    transaction: the number that its answer repeats; 0 if the sender expects no answer.
    """

    name: str
    transaction: float
    object: AmfValue
    arguments: tuple[AmfValue, ...]

    def text(self, index: int) -> str:
        """Returns argument `index` as text; "" if it is missing or not a text."""
        value = self.arguments[index] if index < len(self.arguments) else None
        return value if isinstance(value, str) else ""

    def number(self, index: int, default: float) -> float:
        """Returns argument `index` as a number; `default` if it is missing or not a number."""
        value = self.arguments[index] if index < len(self.arguments) else None
        return float(value) if isinstance(value, int | float) else default


def text_of(values: dict[str, AmfValue], key: str) -> str:
    """Returns a text of an AMF object; "" if it is missing or not a text."""
    value = values.get(key)
    return value if isinstance(value, str) else ""


def amf_payload(message: Message) -> bytes:
    """Returns the AMF0 part of a command or data message. Types 15 and 17 begin with a format byte, 0 for AMF0."""
    payload = message.payload
    if message.type_id in (COMMAND_AMF3, DATA_AMF3) and payload[:1] == b"\0":
        return payload[1:]
    return payload


def parse_command(message: Message) -> Command:
    """Reads a command message of type 17 or 20. Raises RemoteProtocolError."""
    try:
        values = amf0.decode(amf_payload(message), max_items=COMMAND_ITEMS)
    except InvalidData as error:
        raise RemoteProtocolError(f"command: {error}") from error
    name = values[0] if values else None
    if not isinstance(name, str):
        raise RemoteProtocolError("command without a name")
    transaction = values[1] if len(values) > 1 else None
    if not isinstance(transaction, int | float):
        transaction = 0.0
    return Command(name, float(transaction), values[2] if len(values) > 2 else None, tuple(values[3:]))


def command(name: str, transaction: float, *values: AmfValue) -> bytes:
    """Returns the payload of a command message of type 20. values: the command object, then the arguments."""
    return amf0.encode(name, transaction, *values)


def status(level: str, code: str, description: str, **more: AmfValue) -> dict[str, AmfValue]:
    """Returns the information object of onStatus, _result and _error (§7.2.2)."""
    return {"level": level, "code": code, "description": description, **more}


def fourcc_capabilities() -> dict[str, AmfValue]:
    """Returns the values that Enhanced RTMP adds to the answer to `connect`."""
    return {
        "fourCcList": [*VIDEO_FOURCCS, *AUDIO_FOURCCS],
        "videoFourCcInfoMap": {fourcc: float(CAN_FORWARD) for fourcc in VIDEO_FOURCCS},
        "audioFourCcInfoMap": {fourcc: float(CAN_FORWARD) for fourcc in AUDIO_FOURCCS},
        "capsEx": float(CAPS_MULTITRACK | CAPS_MOD_EX),
    }
