"""Script data that Millrace understands: captions, ad cues and metadata, as AMF0 data messages of RTMP and FLV.

Captions, cues and metadata of the API are put into the stream in this form, so all nodes, relays and FLV players get
them with the media.
"""

import base64
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from gateway.formats import amf0
from gateway.media.errors import InvalidData
from gateway.media.labels import is_language, printable
from gateway.media.track import AmfValue, Timed

TEXT_DATA: Final = "onTextData"
CAPTION: Final = "onCaption"
CAPTION_INFO: Final = "onCaptionInfo"  # closed captions of pictures, beside them
CUE_POINT: Final = "onCuePoint"
AD_CUE: Final = "onAdCue"
METADATA: Final = "onTimedMetadata"
_USER_DATA: Final = b"GA94\x03"
MAX_TEXT: Final = 500  # characters of a caption
MAX_METADATA: Final = 1024  # bytes of timed metadata
MAX_ID: Final = 128  # characters of the id of a cue


@dataclass(frozen=True, slots=True)
class CaptionText:
    """The text of a caption from outside the pictures.

    start, end: milliseconds on the stream's clock; end None: it is shown as long as reading takes.
    language: BCP 47; "": unknown. is_speech: whether an engine recognised it.
    """

    text: str
    start: int
    end: int | None = None
    language: str = ""
    is_speech: bool = False


class CueType(StrEnum):
    """What an ad cue says. OTHER: a message without a break, such as a program's start."""

    OUT = "out"
    IN = "in"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class AdCue:
    """An ad cue: a break begins or ends at `at`, in milliseconds on the stream's clock.

    id: of the break; equal for its begin and its end. seconds: the planned duration; None: unknown.
    section: the `splice_info_section` (SCTE 35 §9.6) of which the other values were read.
    """

    type: CueType
    id: str
    at: int
    seconds: float | None
    section: bytes


def caption_data(caption: CaptionText, dts: int) -> Timed:
    """Returns script data with a caption. dts: milliseconds at which players get it."""
    values: dict[str, AmfValue] = {"text": caption.text}
    if caption.language:
        values["language"] = caption.language
    if caption.start != dts:
        values["start"] = float(caption.start - dts)
    if caption.end is not None:
        values["end"] = float(caption.end - dts)
    if caption.is_speech:
        values["speech"] = True
    return Timed(dts, TEXT_DATA, amf0.encode(values))


def read_caption(timed: Timed) -> CaptionText | None:
    """Returns the caption of `onTextData` or `onCaption`; None for everything else, and for damaged data.

    A language that is none is unknown: its text would come into playlists and file names.
    """
    if timed.name not in (TEXT_DATA, CAPTION):
        return None
    values = read_values(timed)
    text = values.get("text")
    if not isinstance(text, str) or not text.strip():
        return None
    language = values.get("language")
    start, end = _moment(values.get("start")), _moment(values.get("end"))
    return CaptionText(
        text.strip()[:MAX_TEXT],
        timed.dts + (start or 0),
        timed.dts + end if end is not None and end > (start or 0) else None,
        language if is_language(language) else "",
        values.get("speech") is True,
    )


def read_caption_data(timed: Timed) -> bytes | None:
    """Returns the `cc_data` (ATSC A/53 part 4, §6.2.3) of `onCaptionInfo`; None for everything else.

    Encoders put the whole user data there, or only `cc_data`.
    """
    if timed.name != CAPTION_INFO:
        return None
    values = read_values(timed)
    encoded = values.get("data")
    if values.get("type") != "708" or not isinstance(encoded, str):
        return None
    try:
        data = base64.b64decode(encoded, validate=True)
    except ValueError:
        return None
    before, head, after = data.partition(_USER_DATA)
    return after if head else before


def ad_cue_data(cue: AdCue, dts: int) -> Timed:
    """Returns script data with an ad cue. dts: milliseconds at which players get it."""
    values: dict[str, AmfValue] = {
        "scte35": base64.b64encode(cue.section).decode(),
        "type": str(cue.type),
        "id": cue.id,
        "at": float(cue.at - dts),
    }
    if cue.seconds is not None:
        values["duration"] = cue.seconds
    return Timed(dts, AD_CUE, amf0.encode(values))


def read_ad_cue(timed: Timed) -> AdCue | None:
    """Returns the cue that `ad_cue_data` wrote; None for everything else."""
    if timed.name != AD_CUE:
        return None
    values = read_values(timed)
    kind, section, at = values.get("type"), values.get("scte35"), _moment(values.get("at"))
    seconds = values.get("duration")
    if kind not in tuple(CueType) or not isinstance(section, str) or at is None:
        return None
    try:
        decoded = base64.b64decode(section, validate=True)
    except ValueError:  # also for characters beyond ASCII
        return None
    planned = seconds if isinstance(seconds, float) and 0 < seconds < _LONGEST else None
    return AdCue(CueType(str(kind)), printable(str(values.get("id", "")))[:MAX_ID], timed.dts + at, planned, decoded)


def metadata_data(text: str, dts: int) -> Timed:
    """Returns script data with timed metadata. dts: milliseconds."""
    return Timed(dts, METADATA, amf0.encode({"text": text}))


def read_metadata(timed: Timed) -> str | None:
    """Returns the text of timed metadata; None for everything else."""
    text = read_values(timed).get("text") if timed.name == METADATA else None
    return text if isinstance(text, str) else None


def read_values(timed: Timed) -> dict[str, AmfValue]:
    """Returns the first object of script data; {} if it has none, or is damaged."""
    try:
        values = amf0.decode(timed.amf)
    except InvalidData:
        return {}
    return next((value for value in values if isinstance(value, dict)), {})


_LONGEST: Final = 3_600_000  # milliseconds between a caption and the message with it


def _moment(value: AmfValue) -> int | None:
    return int(value) if isinstance(value, float) and abs(value) <= _LONGEST else None
