"""Writes the lines of a Media Playlist. Each function writes one tag or one segment, and `playlist` joins them.

Lines are made once, when a part or segment is complete, and joined whenever the playlist changes. MARK follows every
URI. `with_suffix` replaces it by the query that a protected player must send, or by "".
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from gateway.lib.rfc3339 import milliseconds, rfc3339
from gateway.media.labels import printable, quotable

# A control character: a playlist MUST NOT contain one (§4.1), so MARK never occurs in other text.
MARK = "\x00"


def with_suffix(text: str, suffix: str = "") -> bytes:
    """Returns the finished playlist. suffix: "" or "?…", URI characters only, appended to every URI."""
    return text.replace(MARK, suffix).encode()


def quoted(text: str, mark: str = "") -> str:
    """Returns a quoted-string (§4.2), which no text can leave. mark: what follows a URI."""
    return f'"{quotable(text)}{mark}"'


def seconds(value: float) -> str:
    """Returns a decimal-floating-point in steps of 10 µs (§4.2). Rounding does not change the order of durations."""
    return f"{value:.5f}"


def as_printed(value: float) -> float:
    """Returns a duration as clients read it, so that sums of durations are equal in server and client."""
    return round(value, 5)


def part_target(value: float) -> float:
    """Returns the written Part Target Duration, rounded up: no duration up to `value` is written as a longer one."""
    return math.ceil(round(value * 100_000, 3)) / 100_000


def program_date_time(wall: float) -> str:
    """Returns the EXT-X-PROGRAM-DATE-TIME tag (§4.4.4.6). wall: seconds since 1970."""
    return f"#EXT-X-PROGRAM-DATE-TIME:{rfc3339(wall)}\n"


def segment(duration: float, uri: str) -> str:
    """Returns the EXTINF tag (§4.4.4.1) and the URI of the segment."""
    return f"#EXTINF:{seconds(duration)},\n{printable(uri)}{MARK}\n"


def media_map(uri: str) -> str:
    """Returns the EXT-X-MAP tag (§4.4.4.5). It applies to all segments until the next such tag."""
    return f"#EXT-X-MAP:URI={quoted(uri, MARK)}\n"


def part(duration: float, uri: str, independent: bool) -> str:
    """Returns the EXT-X-PART tag (§4.4.4.9)."""
    return (
        f"#EXT-X-PART:DURATION={seconds(duration)},URI={quoted(uri, MARK)}{',INDEPENDENT=YES' if independent else ''}\n"
    )


def preload_hint(uri: str) -> str:
    """Returns the EXT-X-PRELOAD-HINT tag (§4.4.5.3) for the next part."""
    return f"#EXT-X-PRELOAD-HINT:TYPE=PART,URI={quoted(uri, MARK)}\n"


def rendition_report(uri: str, last_msn: int, last_part: int | None) -> str:
    """Returns the EXT-X-RENDITION-REPORT tag (§4.4.5.4).

    uri: of the other Media Playlist.
    last_msn, last_part: its newest segment, and the newest part of that; None if it has no parts.
    """
    tail = "" if last_part is None else f",LAST-PART={last_part}"
    return f"#EXT-X-RENDITION-REPORT:URI={quoted(uri, MARK)},LAST-MSN={last_msn}{tail}\n"


def skip(segments: int) -> str:
    """Returns the EXT-X-SKIP tag (§4.4.5.2). It replaces the first `segments` segments of a Playlist Delta Update."""
    return f"#EXT-X-SKIP:SKIPPED-SEGMENTS={segments}\n"


def date_range(
    id: str, start: float, *, end: float | None = None, planned: float | None = None, scte35: tuple[str, bytes]
) -> str:
    """Returns an EXT-X-DATERANGE tag (§4.4.5.1). start, end: seconds since 1970. planned: seconds.

    scte35: name and value of an attribute; it is left out if b"".
    """
    line = f'#EXT-X-DATERANGE:ID={quoted(id)},START-DATE="{rfc3339(start)}"'
    if end is not None:
        length = (milliseconds(end) - milliseconds(start)) / 1000
        line += f',END-DATE="{rfc3339(end)}",DURATION={length:.3f}'
    if planned is not None:
        line += f",PLANNED-DURATION={planned:.3f}"
    return f"{line},{scte35[0]}=0x{scte35[1].hex().upper()}\n" if scte35[1] else f"{line}\n"


# Tags that no standard has, for ad servers: the form of AWS Elemental and Unified Streaming.
CUE_IN = "#EXT-X-CUE-IN\n"


def cue_out(duration: float | None) -> str:
    """Returns the tag at the start of a break. duration: planned seconds; None: unknown."""
    return "#EXT-X-CUE-OUT\n" if duration is None else f"#EXT-X-CUE-OUT:DURATION={duration:.3f}\n"


def cue_out_cont(elapsed: float, duration: float | None) -> str:
    """Returns the tag at a later segment of a break. elapsed: seconds since its start."""
    total = "" if duration is None else f",Duration={duration:.3f}"
    return f"#EXT-X-CUE-OUT-CONT:ElapsedTime={elapsed:.3f}{total}\n"


@dataclass(frozen=True, slots=True)
class LowLatency:
    """The values of a low-latency playlist, all in seconds.

    part: Part Target Duration, from `part_target`.
    hold_back: at least three times the longest `part` of all renditions (§4.4.3.8), and equal in all of them (§6.2.4).
    skip_until: at least six Target Durations.
    """

    part: float
    hold_back: float
    skip_until: float


def head(
    *,
    target: int,
    sequence: int,
    discontinuity_sequence: int | None,
    version: int,
    low_latency: LowLatency | None = None,
    independent: bool = False,
    skip_until: float = 0.0,
) -> str:
    """Returns the tags before the first segment.

    target: Target Duration in seconds. No rounded EXTINF exceeds it (§4.4.3.1).
    discontinuity_sequence: None for a playlist from which no segments are removed. A live playlist MUST have it, even
    if it is 0 (§6.2.2).
    independent: whether every segment can be decoded without another one (§4.4.2.1).
    skip_until: the Skip Boundary in seconds, for blocking reload and delta updates without parts; 0: without them.
    """
    lines = [f"#EXTM3U\n#EXT-X-VERSION:{version}\n#EXT-X-TARGETDURATION:{target}\n"]
    if independent:
        lines.append("#EXT-X-INDEPENDENT-SEGMENTS\n")
    if low_latency is not None:
        lines.append(
            "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,"
            f"PART-HOLD-BACK={seconds(low_latency.hold_back)},CAN-SKIP-UNTIL={seconds(low_latency.skip_until)}\n"
            f"#EXT-X-PART-INF:PART-TARGET={seconds(low_latency.part)}\n"
        )
    elif skip_until:
        lines.append(f"#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,CAN-SKIP-UNTIL={seconds(skip_until)}\n")
    lines.append(f"#EXT-X-MEDIA-SEQUENCE:{sequence}\n")
    if discontinuity_sequence is not None:
        lines.append(f"#EXT-X-DISCONTINUITY-SEQUENCE:{discontinuity_sequence}\n")
    return "".join(lines)


DISCONTINUITY = "#EXT-X-DISCONTINUITY\n"
ENDLIST = "#EXT-X-ENDLIST\n"


def playlist(head: str, body: Iterable[str], *, ended: bool, tail: Iterable[str] = ()) -> str:
    """Returns the whole playlist. tail: hints and reports; left out of an ended playlist, which must not have them."""
    return "".join([head, *body, ENDLIST if ended else "".join(tail)])
