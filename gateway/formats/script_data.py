"""Script data that Millrace understands: captions, ad cues and metadata, as AMF0 data messages of RTMP and FLV.

Captions, cues and metadata of the API are put into the stream in this form, so all nodes, relays and FLV players get
them with the media.
"""

from dataclasses import dataclass
from typing import Final

from gateway.formats import amf0
from gateway.media.errors import InvalidData
from gateway.media.track import AmfValue, Timed

TEXT_DATA: Final = "onTextData"
CAPTION: Final = "onCaption"
CAPTION_INFO: Final = "onCaptionInfo"  # closed captions of pictures, beside them
CUE_POINT: Final = "onCuePoint"
AD_CUE: Final = "onAdCue"
METADATA: Final = "onTimedMetadata"
MAX_TEXT: Final = 500  # characters of a caption


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
    """Returns the caption of `onTextData` or `onCaption`; None for everything else, and for damaged data."""
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
        language if isinstance(language, str) else "",
        values.get("speech") is True,
    )


def metadata_data(text: str, dts: int) -> Timed:
    """Returns script data with timed metadata. dts: milliseconds."""
    return Timed(dts, METADATA, amf0.encode({"text": text}))


def read_values(timed: Timed) -> dict[str, AmfValue]:
    """Returns the first object of script data; {} if it has none, or is damaged."""
    try:
        values = amf0.decode(timed.amf)
    except InvalidData:
        return {}
    return next((value for value in values if isinstance(value, dict)), {})


_LONGEST: Final = 3_600_000  # milliseconds between a caption and the message with it


def _moment(value: AmfValue | None) -> int | None:
    return int(value) if isinstance(value, float) and abs(value) <= _LONGEST else None
