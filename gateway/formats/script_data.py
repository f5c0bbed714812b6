"""Timed data as AMF0 data messages of RTMP and FLV, and between nodes.

Captions, cues, metadata and private data are written in a form of our own, so all nodes, relays and FLV players get
them with the media. Only the doors read and write it: FLV, RTMP, and the wire between nodes.
"""

import base64
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from gateway.formats import amf0
from gateway.media.clock import MILLISECONDS
from gateway.media.errors import InvalidData
from gateway.media.labels import is_language, printable
from gateway.media.timed_data import (
    MAX_ID,
    MAX_PRIVATE,
    MAX_TEXT,
    AdCue,
    CaptionText,
    CueType,
    Metadata,
    PrivateData,
    Script,
    TimedValue,
)
from gateway.media.track import AmfValue, TimedData

TEXT_DATA: Final = "onTextData"
CAPTION: Final = "onCaption"
CAPTION_INFO: Final = "onCaptionInfo"  # closed captions of pictures, beside them
CUE_POINT: Final = "onCuePoint"
AD_CUE: Final = "onAdCue"
METADATA: Final = "onTimedMetadata"
PRIVATE_DATA: Final = "onPrivateData"
_USER_DATA: Final = b"GA94\x03"
_LONGEST: Final = 3_600  # seconds between a caption or a cue and the message with it
_FARTHEST: Final = 60  # seconds between the time of private data and that of the message

Values = Mapping[str, AmfValue]


def read_timed(dts: int, name: str, amf: bytes, timescale: int = MILLISECONDS) -> TimedData:
    """Returns the data of a message. What we would not write in the same bytes stays script data.

    amf: the AMF0 encoding of the values after the name. timescale: ticks a second; those of FLV are milliseconds.
    """
    read = _READERS.get(name)
    value = None if read is None else read(read_values(amf), dts, timescale)
    if value is not None and write_timed(timed := TimedData(dts, value, timescale)) == (name, amf):
        return timed
    return TimedData(dts, Script(name, amf), timescale)


def write_timed(timed: TimedData) -> tuple[str, bytes]:
    """Returns the name of a message, and the AMF0 encoding of the values after it."""
    value, dts = timed.value, timed.dts
    if isinstance(value, Script):
        return value.name, value.amf
    values: dict[str, AmfValue]
    if isinstance(value, AdCue):
        name, values = AD_CUE, {"scte35": _encoded(value.section), "type": str(value.type), "id": value.id}
        values["at"] = float(value.at - dts)
        if value.seconds is not None:
            values["duration"] = value.seconds
    elif isinstance(value, CaptionText):
        name, values = TEXT_DATA, {"text": value.text}
        if value.language:
            values["language"] = value.language
        if value.start != dts:
            values["start"] = float(value.start - dts)
        if value.end is not None:
            values["end"] = float(value.end - dts)
        if value.is_speech:
            values["speech"] = True
    elif isinstance(value, Metadata):
        name, values = METADATA, {"text": value.text}
    else:
        name, values = PRIVATE_DATA, {"pid": float(value.pid), "type": float(value.stream_type)}
        values |= {"descriptors": _encoded(value.descriptors), "data": _encoded(value.payload)}
        if value.at is not None:
            values["at"] = float(value.at - dts)
    return name, amf0.encode(values)


def read_caption(timed: TimedData) -> CaptionText | None:
    """Returns a caption, also of `onTextData` and `onCaption` of encoders; None for everything else."""
    value = timed.value
    if isinstance(value, Script) and value.name in (TEXT_DATA, CAPTION):
        return _read_caption(read_values(value.amf), timed.dts, timed.timescale)
    return value if isinstance(value, CaptionText) else None


def read_caption_data(timed: TimedData) -> bytes | None:
    """Returns the `cc_data` (ATSC A/53 part 4, §6.2.3) of `onCaptionInfo`; None for everything else.

    Encoders put the whole user data there, or only `cc_data`.
    """
    value = timed.value
    if not isinstance(value, Script) or value.name != CAPTION_INFO:
        return None
    values = read_values(value.amf)
    data = _decoded(values.get("data"))
    if values.get("type") != "708" or data is None:
        return None
    before, head, after = data.partition(_USER_DATA)
    return after if head else before


def read_ad_cue(values: Values, dts: int, timescale: int = MILLISECONDS) -> AdCue | None:
    """Returns the cue that `write_timed` wrote; None for everything else. dts: of its message."""
    kind, section, at = values.get("type"), _decoded(values.get("scte35")), _moment(values.get("at"), timescale)
    seconds = values.get("duration")
    if kind not in tuple(CueType) or section is None or at is None:
        return None
    planned = seconds if isinstance(seconds, float) and 0 < seconds < 1000 * _LONGEST else None
    return AdCue(CueType(str(kind)), printable(str(values.get("id", "")))[:MAX_ID], dts + at, planned, section)


def read_metadata(values: Values, dts: int, timescale: int) -> Metadata | None:
    """Returns timed metadata; None for everything else."""
    text = values.get("text")
    return Metadata(text) if isinstance(text, str) else None


def read_values(amf: bytes) -> dict[str, AmfValue]:
    """Returns the first object of script data; {} if it has none, or is damaged."""
    try:
        return first_object(amf0.decode(amf))
    except InvalidData:
        return {}


def first_object(values: Iterable[AmfValue]) -> dict[str, AmfValue]:
    return next((value for value in values if isinstance(value, dict)), {})


def _read_caption(values: Values, dts: int, timescale: int) -> CaptionText | None:
    """Returns a caption. A language that is none is unknown: its text would come into playlists and file names."""
    text, language = values.get("text"), values.get("language")
    if not isinstance(text, str) or not text.strip():
        return None
    start, end = (_moment(values.get(name), timescale) for name in ("start", "end"))
    return CaptionText(
        text.strip()[:MAX_TEXT],
        dts + (start or 0),
        dts + end if end is not None and end > (start or 0) else None,
        language if is_language(language) else "",
        values.get("speech") is True,
    )


def _read_private_data(values: Values, dts: int, timescale: int) -> PrivateData | None:
    pid, kind, at = (values.get(name) for name in ("pid", "type", "at"))
    descriptors, payload = _decoded(values.get("descriptors")), _decoded(values.get("data"))
    if not (isinstance(pid, float) and isinstance(kind, float) and 0 <= pid < 0x2000 and 0 <= kind < 0x100):
        return None
    if descriptors is None or payload is None or len(payload) > MAX_PRIVATE:
        return None
    time = dts + int(at) if isinstance(at, float) and abs(at) <= _FARTHEST * timescale else None
    return PrivateData(int(pid), int(kind), descriptors, time, payload)


_READERS: Final[dict[str, Callable[[Values, int, int], TimedValue | None]]] = {
    AD_CUE: read_ad_cue, TEXT_DATA: _read_caption, METADATA: read_metadata, PRIVATE_DATA: _read_private_data,
}  # fmt: skip


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _decoded(value: AmfValue) -> bytes | None:
    try:
        return base64.b64decode(value, validate=True) if isinstance(value, str) else None
    except ValueError:  # also for characters beyond ASCII
        return None


def _moment(value: AmfValue, timescale: int) -> int | None:
    return int(value) if isinstance(value, float) and abs(value) <= _LONGEST * timescale else None
