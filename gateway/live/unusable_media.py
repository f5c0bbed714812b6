"""UnusableMedia: what a push sends that no player can show, in sentences for the channel's owner."""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final

import structlog

from gateway.formats.ts.program_tables import ENCRYPTED, SCRAMBLED, UNNAMED
from gateway.media.errors import InvalidData
from gateway.media.track import Codec, Kind, Tracks

log = structlog.get_logger(__name__)

NOT_READABLE: Final = "they are damaged, encrypted, or of another codec than announced"
_MAX_LEFT_OUT: Final = 16
_MOST_NAMES: Final = 3  # in a sentence
_NAME_CHARACTERS, _REASON_CHARACTERS = 80, 300
_IN_ROW: Final = 5  # units that cannot be read, after which they are a fault
HEADLESS: Final = {
    codec: f"{name} without its sequence header"
    for codec, name in ((Codec.AAC, "AAC"), (Codec.OPUS, "Opus"), (Codec.FLAC, "FLAC"))
}
# By the begin of the name.
_OTHER_ADVICE: Final = {
    SCRAMBLED: "send it without scrambling",
    UNNAMED: "choose AAC if they are the sound",
    ENCRYPTED: "send it without encryption",
    **dict.fromkeys(HEADLESS.values(), "connect it again"),
}
_ADVICE: Final = {Kind.VIDEO: "choose H.264 or HEVC", Kind.AUDIO: "choose AAC"}


class UnusableMedia:
    """Learns from the intake of a push what cannot be used, and tells its health and its refusal.

    explain: returns why no picture was read although pictures are promised or come; "": no reason is known. The intake
    sets it: `UnitIntake`, `WhipIntake`, `FramesIntake`.
    read: units of pictures and of sound that were read, by index of the timeline. The intake counts them.
    broken: number of units that cannot be read. A single one is dropped.
    record: why the configuration of the pictures cannot be read; "": it can. `FlvIntake` sets it.
    """

    IN_ROW: Final = 100  # broken units in a row that end the push, if nothing else of it can be read

    def __init__(self, name: str = "", dropped: Counter[str] | None = None) -> None:
        self._name, self._dropped = name, Counter[str]() if dropped is None else dropped
        self.explain: Callable[[], str] = str
        self.read = [0, 0]
        self.broken = 0
        self.record = ""
        self._left_out: dict[str, Kind] = {}  # by name
        self._rows: dict[int, tuple[list[int], int, str]] = {}  # by index: `read` before, units, the last reason

    # ---- for intakes ----

    def leave_out(self, kind: Kind, name: str) -> None:
        """Learns of a track whose codec cannot be used. name: as users know it. The first 16 count."""
        name = name[:_NAME_CHARACTERS]
        if name not in self._left_out and len(self._left_out) < _MAX_LEFT_OUT:
            self._left_out[name] = kind
            log.warning("a track is not published", stream=self._name, kind=str(kind), what=name)

    def begin(self, kind: Kind) -> None:
        """Learns of a track of this kind that can be used, in place of what was left out."""
        self._left_out = {name: of for name, of in self._left_out.items() if of is not kind}

    def leave_out_only(self, lost: Mapping[str, Kind]) -> None:
        """Replaces all that was left out before: the program has changed."""
        self._left_out = {name: kind for name, kind in self._left_out.items() if name in lost}
        for name, kind in lost.items():
            self.leave_out(kind, name)

    def add_broken(self, index: int, reason: str, *, alone: bool = False) -> bool:
        """Counts a unit that cannot be read. Returns whether the push must end: IN_ROW have come, and no others.

        alone: whether units of the other kind do not count.
        """
        before, in_row, _ = self._rows.get(index, ([], 0, ""))
        if not before or before[index] != self.read[index]:
            before, in_row = self.read.copy(), 0
            log.info("malformed media dropped", stream=self._name, reason=reason)
        self._rows[index] = before, in_row + 1, reason
        self.broken += 1
        self._dropped["ingest"] = self.broken
        return in_row + 1 >= self.IN_ROW and (alone or before == self.read)

    # ---- for another node, which holds the stream ----

    def fields(self) -> dict[str, object]:
        """Returns the members of a message; {}: everything can be used."""
        reasons = self.unreadable, "" if self.read[0] else self.explain()
        return {"leftOut": self._left_out.copy(), "reasons": reasons} if self._left_out or any(reasons) else {}

    def take_fields(self, fields: Mapping[str, Any]) -> None:
        """Takes such members. Raises InvalidData."""
        try:
            self.leave_out_only({str(name): Kind(kind) for name, kind in fields.get("leftOut", {}).items()})
            self.record, explained = (str(reason)[:_REASON_CHARACTERS] for reason in fields.get("reasons", ("", "")))
        except (AttributeError, TypeError, ValueError) as error:
            raise InvalidData(f"what of a push cannot be used: {error}") from None
        self.explain = lambda: explained

    # ---- for the owner ----

    @property
    def left_out(self) -> str:
        """The names of what is left out."""
        return ", ".join(self._left_out)

    def explains(self, kind: Kind, tracks: Tracks | None) -> bool:
        """Whether it is known why pictures or sound are missing.

        tracks: the announced ones. What is left out beside one of the same kind does not explain why that one is away.
        """
        is_unreadable = kind is Kind.VIDEO and bool(self.unreadable or (not self.read[0] and self.explain()))
        is_announced = tracks is not None and bool(tracks.video if kind is Kind.VIDEO else tracks.audio)
        return is_unreadable or (not is_announced and kind in self._left_out.values())

    @property
    def left_out_text(self) -> str:
        """The sentences about tracks that are left out, with advice; "": none is."""
        sentences = []
        for kind, advice in _ADVICE.items():
            if names := [name for name, of in self._left_out.items() if of is kind]:
                advice = next((other for start, other in _OTHER_ADVICE.items() if names[0].startswith(start)), advice)
                sentences.append(f"The encoder sends {', '.join(names[:_MOST_NAMES])}: {advice}.")
        return " ".join(sentences)

    @property
    def unreadable(self) -> str:
        """Why the pictures that come now cannot be read; "": they can."""
        before, in_row, reason = self._rows.get(0, ([], 0, ""))
        return self.record or (reason if in_row >= _IN_ROW and before[0] == self.read[0] else "")

    def text(self) -> str:
        """Returns all that is known, for a push of which nothing can be used; "": nothing came."""
        reason = self.unreadable or self.explain()
        return " ".join(filter(None, (self.left_out_text, f"The pictures cannot be used: {reason}." if reason else "")))


def unreadable_text(reason: str) -> str:
    """Returns the sentence for pictures that cannot be read."""
    return f"No player can show the pictures: {reason}."
