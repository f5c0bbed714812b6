"""The lines of a Media Playlist: each function prints one tag or one segment, and `playlist` puts them in order.

Lines are made once, when a part or segment is complete, and joined as often as the playlist changes. Every URI is
followed by MARK, where `with_suffix` puts the query that a protected player must send (or nothing).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

# A control character, which a playlist MUST NOT contain (§4.1), so it cannot stand there for another reason.
MARK = "\x00"


def with_suffix(text: str, suffix: str = "") -> bytes:
    """The finished playlist: `suffix` ("" or "?…", URI characters only) behind every URI."""
    return text.replace(MARK, suffix).encode()


def seconds(value: float) -> str:
    """A decimal-floating-point of 10 µs (§4.2): rounding keeps order, so what was not longer does not print longer."""
    return f"{value:.5f}"


def as_printed(value: float) -> float:
    """A duration as a client reads it: what is decided from sums of durations must come out the same on both sides."""
    return round(value, 5)


def part_target(value: float) -> float:
    """The Part Target Duration as it is printed: no duration up to `value` prints longer."""
    return math.ceil(round(value * 100_000, 3)) / 100_000


def date(epoch_seconds: float) -> str:
    """ISO 8601 with milliseconds, UTC."""
    return (
        datetime.fromtimestamp(round(epoch_seconds, 3), UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    )


def program_date_time(epoch_seconds: float) -> str:
    """§4.4.4.6."""
    return f"#EXT-X-PROGRAM-DATE-TIME:{date(epoch_seconds)}\n"


def segment(duration: float, uri: str) -> str:
    """EXTINF (§4.4.4.1) and the URI it is for."""
    return f"#EXTINF:{seconds(duration)},\n{uri}{MARK}\n"


def media_map(uri: str) -> str:
    """§4.4.4.5; for all segments that follow, up to the next one."""
    return f'#EXT-X-MAP:URI="{uri}{MARK}"\n'


def part(duration: float, uri: str, independent: bool) -> str:
    """§4.4.4.9."""
    return f'#EXT-X-PART:DURATION={seconds(duration)},URI="{uri}{MARK}"{",INDEPENDENT=YES" if independent else ""}\n'


def preload_hint(uri: str) -> str:
    """§4.4.5.3, of the part that comes next."""
    return f'#EXT-X-PRELOAD-HINT:TYPE=PART,URI="{uri}{MARK}"\n'


def rendition_report(uri: str, last_msn: int, last_part: int | None) -> str:
    """§4.4.5.4; uri: of the other Media Playlist; last_part: None where it has no parts."""
    tail = "" if last_part is None else f",LAST-PART={last_part}"
    return f'#EXT-X-RENDITION-REPORT:URI="{uri}{MARK}",LAST-MSN={last_msn}{tail}\n'


def skip(segments: int) -> str:
    """§4.4.5.2: stands for the first `segments` segments of a Playlist Delta Update."""
    return f"#EXT-X-SKIP:SKIPPED-SEGMENTS={segments}\n"


@dataclass(frozen=True, slots=True)
class LowLatency:
    """What a low-latency playlist promises. part: Part Target Duration, from `part_target`; all in seconds.

    hold_back: at least three times `part` (§4.4.3.8); skip_until: at least six Target Durations.
    """

    part: float
    hold_back: float
    skip_until: float


def head(
    *,
    target: int,
    sequence: int,
    discontinuity_sequence: int,
    version: int,
    low_latency: LowLatency | None = None,
    independent: bool = False,
) -> str:
    """The tags that stand before the first segment. target: seconds, never exceeded by a rounded EXTINF (§4.4.3.1).

    independent: no segment needs another one to be decoded (§4.4.2.1), now and for as long as the playlist lives."""
    lines = [f"#EXTM3U\n#EXT-X-VERSION:{version}\n#EXT-X-TARGETDURATION:{target}\n"]
    if independent:
        lines.append("#EXT-X-INDEPENDENT-SEGMENTS\n")
    if low_latency is not None:
        lines.append(
            "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,"
            f"PART-HOLD-BACK={seconds(low_latency.hold_back)},CAN-SKIP-UNTIL={seconds(low_latency.skip_until)}\n"
            f"#EXT-X-PART-INF:PART-TARGET={seconds(low_latency.part)}\n"
        )
    lines.append(f"#EXT-X-MEDIA-SEQUENCE:{sequence}\n")
    if discontinuity_sequence:
        lines.append(f"#EXT-X-DISCONTINUITY-SEQUENCE:{discontinuity_sequence}\n")
    return "".join(lines)


DISCONTINUITY = "#EXT-X-DISCONTINUITY\n"
ENDLIST = "#EXT-X-ENDLIST\n"


def playlist(head: str, body: Iterable[str], *, ended: bool, tail: Iterable[str] = ()) -> str:
    """All of it: `tail` (hints and reports, which a finished playlist must not have) only while it is live."""
    return "".join([head, *body, ENDLIST if ended else "".join(tail)])
