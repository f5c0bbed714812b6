"""Finds the ad cues and the timed metadata in the timed data of a stream."""

import json
from collections import deque
from dataclasses import dataclass
from typing import Final, TypeAlias

from gateway.formats import amf0, id3, script_data
from gateway.formats.mp4.event_message import ID3_SCHEME, SCTE35_SCHEME, EventMessage
from gateway.formats.ts.splice_sections import is_section
from gateway.media.clock import VIDEO_CLOCK
from gateway.media.errors import InvalidData
from gateway.media.timed_data import MAX_METADATA, AdCue, CueType, Metadata, Script
from gateway.media.track import TimedData

_MAX_AMF: Final = 4 * MAX_METADATA
_MANY: Final = 5  # of metadata in _PERIOD, the same for each way in
_MANY_CUES: Final = 10
_PERIOD: Final = VIDEO_CLOCK
# Script data that is no metadata of the programme: captions, cues, messages of servers and of Millrace itself, and the
# frames of the second sound that OBS sends with "Twitch VOD Track".
_OTHER: Final = frozenset(
    (
        *(script_data.TEXT_DATA, script_data.CAPTION, script_data.CAPTION_INFO, script_data.CUE_POINT),
        *(script_data.AD_CUE, script_data.METADATA, script_data.PRIVATE_DATA),
        *("onMetaData", "onMillraceClock", "onStatus", "|RtmpSampleAccess", "@setDataFrame"),
        *("onExpectAdditionalMedia", "additionalMedia"),
    )
)


@dataclass(frozen=True, slots=True)
class MetadataTag:
    """Timed metadata as an ID3 tag. at: ticks of 90 kHz on the stream's clock."""

    at: int
    tag: bytes


TimedEvent: TypeAlias = AdCue | MetadataTag


class EventReader:
    """Reads the events of one stream. More than 5 metadata or 10 cues a second are dropped, by the stream's clock.

    Script data with unknown names, of more than 1 kB as JSON, is dropped too.
    """

    def __init__(self) -> None:
        self._recent: dict[str, deque[int]] = {}

    def read(self, timed: TimedData) -> TimedEvent | None:
        """Returns the event of timed data, with times in ticks of 90 kHz; None if it is none."""
        timed = timed.counted(VIDEO_CLOCK)
        value = timed.value
        if isinstance(value, AdCue):
            return value if self._may_pass(timed.dts, "cue", _MANY_CUES) else None
        if isinstance(value, Script):
            text, kind = "" if value.name in _OTHER else _as_json(value), "script"
        else:
            text, kind = value.text if isinstance(value, Metadata) else "", "metadata"
        if not text or len(text.encode("utf-8", "replace")) > MAX_METADATA:
            return None
        if not self._may_pass(timed.dts, kind, _MANY):
            return None
        return MetadataTag(timed.dts, id3.text_tag(text))

    def _may_pass(self, dts: int, kind: str, many: int) -> bool:
        recent = self._recent.setdefault(kind, deque(maxlen=many))
        if len(recent) == many and 0 <= dts - recent[0] < _PERIOD:
            return False
        recent.append(dts)
        return True


def event_message(event: TimedEvent) -> EventMessage | None:
    """Returns an event for a CMAF track; None for a cue without a valid section."""
    if isinstance(event, MetadataTag):
        return EventMessage(ID3_SCHEME, event.at, None, event.tag)
    return EventMessage(SCTE35_SCHEME, event.at, event.seconds, event.section) if is_section(event.section) else None


def begins_segment(event: TimedEvent) -> bool:
    """Whether a segment should begin at the time of an event: a break begins or ends."""
    return isinstance(event, AdCue) and event.type is not CueType.OTHER


def _as_json(script: Script) -> str:
    """Returns script data as a JSON text; "" if it is damaged or too large."""
    if len(script.amf) > _MAX_AMF:
        return ""
    try:
        values = amf0.decode(script.amf)
        return json.dumps({"name": script.name, "values": values}, ensure_ascii=False, allow_nan=False)
    except (InvalidData, ValueError):  # ValueError: a number that JSON does not have
        return ""
