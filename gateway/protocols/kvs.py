"""Parses the responses of PutMedia: acknowledgements and errors, with the action for each error."""

import json
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from gateway.lib.numbers import read_integer
from gateway.protocols.errors import RemoteProtocolError

# The documentation promises at most 1024 characters for an acknowledgement; wrapped ones are a little longer.
MAX_ACK: Final = 4096
_MAX_DEPTH: Final = 8
_MAX_INTEGER: Final = (1 << 63) - 1
_SEPARATORS: Final = b" \t\r\n,"
# Bytes that change the state of a scan; the regular expression skips everything between them.
_MARKS = re.compile(rb'[{}"\\]')


class AckEventType(StrEnum):
    BUFFERING = "BUFFERING"  # the first byte of a fragment has arrived
    RECEIVED = "RECEIVED"  # the whole fragment has arrived
    PERSISTED = "PERSISTED"  # the fragment is stored: the sender may delete it
    ERROR = "ERROR"
    IDLE = "IDLE"  # no data arrived; the connection will be closed soon
    OTHER = "OTHER"  # an unknown kind


class AckAction(StrEnum):
    """The action that a sender should take after an error."""

    RETRY = "retry"  # reconnect and send this fragment again
    DROP = "drop"  # reconnect and skip this fragment, because it would be rejected again
    WAIT = "wait"  # an administrator must fix it; keep the fragments and retry later


# Action → ErrorId and name. Sources: the documentation of PutMedia ("Response Syntax"), and the lists of recoverable
# and of retriable errors in the producer SDK.
_NAMES: Final[dict[AckAction, dict[int, str]]] = {
    AckAction.RETRY: {
        4000: "STREAM_READ_ERROR", 4003: "MAX_CONNECTION_DURATION_REACHED", 5000: "INTERNAL_ERROR",
        5001: "ARCHIVAL_ERROR",
    },
    AckAction.DROP: {
        4001: "MAX_FRAGMENT_SIZE_REACHED", 4002: "MAX_FRAGMENT_DURATION_REACHED",
        4004: "FRAGMENT_TIMECODE_LESSER_THAN_PREVIOUS", 4005: "MORE_THAN_ALLOWED_TRACKS_FOUND",
        4006: "INVALID_MKV_DATA", 4007: "INVALID_PRODUCER_TIMESTAMP", 4009: "FRAGMENT_METADATA_LIMIT_REACHED",
        4010: "TRACK_NUMBER_MISMATCH", 4011: "FRAMES_MISSING_FOR_TRACK", 4012: "MORE_THAN_ALLOWED_TRACKS_FOUND",
    },
    AckAction.WAIT: {
        4008: "STREAM_NOT_ACTIVE", 4500: "KMS_KEY_ACCESS_DENIED", 4501: "KMS_KEY_DISABLED",
        4502: "KMS_KEY_VALIDATION_ERROR", 4503: "KMS_KEY_UNAVAILABLE", 4504: "KMS_KEY_INVALID_USAGE",
        4505: "KMS_KEY_INVALID_STATE", 4506: "KMS_KEY_NOT_FOUND", 4507: "STREAM_DELETED",
    },
}  # fmt: skip
ERRORS: Final = {id: (name, action) for action, names in _NAMES.items() for id, name in names.items()}

# By ErrorCode, for errors without a known id.
_BY_NAME: Final = dict(ERRORS.values()) | {"MIN_FRAGMENT_DURATION_REACHED": AckAction.DROP}


@dataclass(frozen=True, slots=True)
class Ack:
    """One acknowledgement.

    timecode: of the fragment, milliseconds since 1970; None if it is missing.
    number: the fragment number of the service; "" if there is none yet.
    error: the ErrorId; 0 if there is no error.
    """

    event: AckEventType
    timecode: int | None = None
    number: str = ""
    error: int = 0
    code: str = ""

    @property
    def action(self) -> AckAction:
        """The action for an ERROR.

        Unknown errors are RETRY. The sender limits its attempts and then drops the fragment.
        """
        if self.error in ERRORS:
            return ERRORS[self.error][1]
        return _BY_NAME.get(self.code, AckAction.RETRY)

    @property
    def description(self) -> str:
        """An ERROR as text for operators: "4006 INVALID_MKV_DATA"."""
        return f"{self.error} {self.code or ERRORS.get(self.error, ('unknown',))[0]}"


class AckReader:
    """Reads acknowledgements: JSON objects one after another, in pieces of any size.

    It reads both forms: the flat one that the service sends, and the one wrapped in {"Acknowledgement": …}. Objects
    without EventType are skipped. Raises RemoteProtocolError for data that is not a JSON object, and for an object of
    more than MAX_ACK bytes. After that, the reader cannot be used.
    """

    def __init__(self) -> None:
        self._pending = bytearray()
        self._scanned = 0  # position up to which `_pending` was scanned
        self._depth = 0  # open braces at `_scanned`
        self._quoted = False  # whether `_scanned` is inside a string

    def receive(self, data: bytes) -> list[Ack]:
        """Returns the acknowledgements that these bytes complete, in order."""
        acks: list[Ack] = []
        pending = self._pending
        pending += data
        start = 0
        while True:
            if not self._depth:
                start = self._scanned = _skip(pending, self._scanned)
                if start == len(pending):
                    break
                if pending[start : start + 1] != b"{":
                    raise RemoteProtocolError(f"not an acknowledgement: {bytes(pending[start : start + 20])!r}")
            end = self._scan(start)
            if (len(pending) if end is None else end) - start > MAX_ACK:
                raise RemoteProtocolError(f"an acknowledgement of more than {MAX_ACK} bytes")
            if end is None:
                break
            if (ack := _parse_ack(bytes(pending[start:end]))) is not None:
                acks.append(ack)
            start = end
        del pending[:start]
        self._scanned -= start
        return acks

    def _scan(self, start: int) -> int | None:
        """Returns the end of the object that begins at `start`; None if it is incomplete."""
        pending = self._pending
        while (mark := _MARKS.search(pending, self._scanned)) is not None:
            at, char = mark.start(), mark[0]
            self._scanned = at + 1
            if char == b"\\":
                if self._quoted:
                    if at + 1 == len(pending):
                        self._scanned = at  # the escaped byte has not arrived
                        return None
                    self._scanned = at + 2
            elif char == b'"':
                self._quoted = not self._quoted
            elif not self._quoted:
                self._depth += 1 if char == b"{" else -1
                if self._depth > _MAX_DEPTH:
                    raise RemoteProtocolError("an acknowledgement is nested too deeply")
                if not self._depth:
                    return self._scanned
        self._scanned = len(pending)
        return None


def _skip(data: bytearray, at: int) -> int:
    while at < len(data) and data[at] in _SEPARATORS:
        at += 1
    return at


def _parse_ack(text: bytes) -> Ack | None:
    try:
        value: Any = json.loads(text)
    except (ValueError, RecursionError):
        raise RemoteProtocolError(f"an acknowledgement is not JSON: {text[:40]!r}") from None
    if isinstance(wrapped := value.get("Acknowledgement"), dict):
        value = wrapped
    # The service sends EventType; the documentation calls it AckEventType.
    kind = value.get("EventType", value.get("AckEventType"))
    if not isinstance(kind, str):
        return None
    event = AckEventType(kind) if kind in AckEventType.__members__ else AckEventType.OTHER
    number, code = value.get("FragmentNumber", ""), value.get("ErrorCode", "")
    number = str(number)[:256] if isinstance(number, str | int) else ""
    code = code[:128] if isinstance(code, str) else ""
    return Ack(event, _integer(value.get("FragmentTimecode")), number, _integer(value.get("ErrorId")) or 0, code)


def _integer(value: Any) -> int | None:
    """Returns an integer, also from text; None if the value is not a number from 0 to 2**63 - 1."""
    if isinstance(value, str):
        return read_integer(value, _MAX_INTEGER)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MAX_INTEGER else None
