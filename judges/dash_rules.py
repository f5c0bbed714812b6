"""DASH live rules (ISO/IEC 23009-1, DASH-IF live) over time on a dynamic manifest.

Computes each segment's availability as a client does, asks for it at its time, before it and at the end of the window,
compares @duration and SegmentTimeline with the segments themselves, and the manifest with its earlier versions.
`MILLRACE_DASH_SCHEMA` names a copy of ISO's DASH-MPD.xsd to validate with; it is not part of the repository, since its
licence does not say that others may pass it on.
"""

from __future__ import annotations

import math
import os
import re
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from urllib.parse import urljoin

from judges import isobmff, mpd
from judges.fetch import get
from judges.findings import Findings
from judges.mpd import Entry, Manifest, Representation

# Seconds by which a figure may be off: one unit of a millisecond clock, rounded twice.
EXACT = 0.0015
# Seconds by which the clocks of gateway and judge, on one machine, may seem apart.
CLOCK = 0.2
# A listed segment's availability time may lie so far ahead, in seconds.
AHEAD = 0.15
MAX_POLL_SECONDS = 2.1
FAR_FUTURE_SEGMENTS = 12


@dataclass
class Presentation:
    """What one client has seen of a presentation. listed: time and duration by period, representation and number."""

    url: str
    findings: Findings
    listed: dict[tuple[str, str, int], tuple[int, int]] = field(default_factory=dict)
    asked: set[tuple[object, ...]] = field(default_factory=set)
    headers: dict[str, isobmff.Header | None] = field(default_factory=dict)
    polls: int = 0
    available: float | None = None
    published: float = 0.0

    # ---- the manifest ----

    def see(self, manifest: Manifest, now: float) -> None:
        """Judges a version of the manifest. now: seconds since the epoch when it came."""
        self.polls += 1
        self.header_fields(manifest, now)
        for representation in manifest.representations:
            continued = any(
                (other.media, other.initialization) == (representation.media, representation.initialization)
                and other.period_start == representation.period_end
                for other in manifest.representations
            )
            if representation.period_end is not None and not continued:
                self.closed(representation, representation.period_end)
            if representation.entries is None:
                self.by_number(representation, manifest, now)
            else:
                self.timeline(representation, representation.entries, manifest, now)

    def header_fields(self, manifest: Manifest, now: float) -> None:
        """Rules of the manifest's own fields; needs no network."""
        require = self.findings.require
        require(
            manifest.published <= now + CLOCK,
            "MPD@publishTime is not in the future",
            f"{manifest.published - now:+.3f}",
        )
        require(manifest.published >= self.published, "MPD@publishTime does not go back", manifest.published)
        same = self.available in (None, manifest.available)
        require(same, "5.3.1.2 MPD@availabilityStartTime stays", f"{self.available} {manifest.available}")
        self.published, self.available = manifest.published, manifest.available
        if manifest.delay and manifest.time_shift:
            inside = manifest.delay <= manifest.time_shift + 1e-3
            words = f"{manifest.delay} > {manifest.time_shift}"
            require(inside, "MPD@suggestedPresentationDelay is within timeShiftBufferDepth", words)
        require(manifest.clocks, "a UTCTiming is there")
        for scheme, value in manifest.clocks:
            if scheme.endswith("direct:2014"):
                off = mpd.date_time(value) - now
                require(abs(off) <= CLOCK, "5.8.4.11 UTCTiming is right", f"direct {off:+.3f}")

    def clock(self, manifest: Manifest) -> None:
        """Asks the clock that the manifest names."""
        for scheme, value in manifest.clocks:
            if scheme != "urn:mpeg:dash:utc:http-iso:2014":
                continue
            answer = get(urljoin(self.url, value))
            self.findings.require(answer.status == 200, "UTCTiming answers", answer.status)
            if answer.status == 200:
                off = mpd.date_time(answer.body.decode()) - time.time()
                self.findings.require(abs(off) <= CLOCK, "5.8.4.11 UTCTiming is right", f"{off:+.3f}")

    def closed(self, representation: Representation, end: float) -> None:
        """§5.3.2.1: a Period that has ended has no additional segments; players ask for the next number nevertheless.

        Media of the following Period at that address need another header, and break the player that reads them, unless
        both Periods have the same addresses. An empty segment is right: after a 404, shaka-player asks without end, and
        dash.js reports an error.
        """
        key = (representation.period, representation.id, "closed")
        if key in self.asked or "$Time$" in representation.media:
            return
        self.asked.add(key)
        if representation.entries:
            last = representation.entries[-1].number
        elif representation.duration:
            seconds = representation.duration / representation.timescale
            last = representation.start_number - 1 + math.ceil((end - representation.period_start) / seconds - 0.05)
        else:
            return
        for number in (last + 1, last + 2):
            answer = get(representation.segment_url(number))
            words = (
                f"period {representation.period} {representation.id} number {number} behind its end: {answer.status}"
            )
            self.findings.require(
                b"moof" not in answer.body, "5.3.2.1 a closed Period has no additional segments", words
            )

    # ---- SegmentTimeline ----

    def entries_stay(self, representation: Representation, entries: list[Entry], longest: float | None) -> None:
        """§5.3.9.6: a published entry does not change; needs no network."""
        for entry in entries:
            key = (representation.period, representation.id, entry.number)
            now = (entry.time, entry.duration)
            before = self.listed.setdefault(key, now)
            self.findings.require(before == now, "a listed S does not change", f"{key} {before} -> {now}")
            self.listed[key] = now
            seconds = entry.duration / representation.timescale
            short = not longest or seconds <= longest + 0.0006
            self.findings.require(short, "MPD@maxSegmentDuration holds", f"{key} {seconds:.3f} > {longest}")

    def timeline(self, representation: Representation, entries: list[Entry], manifest: Manifest, now: float) -> None:
        filled = entries or representation.period_end is not None
        self.findings.require(filled, "the timeline of an open Period has entries", representation.id)
        self.entries_stay(representation, entries, manifest.max_segment)
        for entry in entries:
            key = (representation.period, representation.id, entry.number)
            if key in self.asked:
                continue
            self.asked.add(key)
            scale = representation.timescale
            end = (entry.time + entry.duration - representation.offset) / scale
            early = manifest.available + representation.period_start + end - now
            self.findings.require(early <= AHEAD, "a listed segment is available", f"{key} in {early:+.2f} s")
            fragments = self.fragments(representation, representation.segment_url(entry.number, entry.time), key)
            header = self.header(representation)
            if not fragments or header is None:
                continue
            start = min(fragment.earliest_presentation for fragment in fragments) / header.timescale
            words = f"{key} {entry.time / scale:.4f}, media {start:.4f}"
            near = abs(start - entry.time / scale) <= EXACT
            self.findings.require(near, "5.3.9.6 S@t is the earliest presentation time", words)
            duration = sum(fragment.duration for fragment in fragments) / header.timescale
            words = f"{key} {entry.duration / scale:.4f}, media {duration:.4f}"
            near = abs(duration - entry.duration / scale) <= EXACT
            self.findings.require(near, "5.3.9.6 S@d is the segment's duration", words)

    # ---- @duration ----

    def by_number(self, representation: Representation, manifest: Manifest, now: float) -> None:
        """§5.3.9.5.3: number and availability of a segment follow from the clock."""
        if representation.duration is None:
            self.findings.breaks("5.3.9.2 SegmentTemplate has @duration or a timeline", representation.id)
            return
        if representation.period_end is not None:
            return
        duration = representation.duration / representation.timescale
        elapsed = now - manifest.available - representation.period_start
        first = representation.start_number
        complete = int(elapsed // duration) + first - 1
        # With availabilityTimeOffset the newest one can be asked for while it grows.
        newest = int((elapsed + representation.time_offset) // duration) + first - 1
        for number, kind in ((complete, "complete"), (newest, "growing")):
            if number >= first:
                self.at_its_time(representation, number, kind, duration)
        if manifest.time_shift:
            oldest = max(first, int((elapsed - manifest.time_shift) // duration) + first)
            if oldest <= complete:
                self.oldest(representation, oldest)
        if self.polls == 2:
            self.future(representation, complete + FAR_FUTURE_SEGMENTS)

    def at_its_time(self, representation: Representation, number: int, kind: str, duration: float) -> None:
        key = (representation.period, representation.id, number, kind)
        if key in self.asked:
            return
        self.asked.add(key)
        fragments = self.fragments(representation, representation.segment_url(number), key)
        header = self.header(representation)
        if not fragments or header is None:
            return
        start = min(fragment.earliest_presentation for fragment in fragments) / header.timescale
        nominal = (number - representation.start_number) * duration
        drift = start - representation.offset / representation.timescale - nominal
        near = abs(drift) <= duration / 2
        self.findings.require(near, "5.3.9.5.3 a segment starts within half a duration", f"{key} {drift:+.3f}")

    def oldest(self, representation: Representation, number: int) -> None:
        key = (representation.period, representation.id, number, "oldest")
        if key in self.asked:
            return
        self.asked.add(key)
        status = get(representation.segment_url(number)).status
        self.findings.require(status == 200, "the oldest segment of timeShiftBufferDepth is there", f"{key} {status}")

    def future(self, representation: Representation, number: int) -> None:
        answer = get(representation.segment_url(number))
        self.findings.require(answer.status in (404, 410, 425), "a number of the far future is 404", answer.status)
        age = re.search(r"max-age=(\d+)", answer.header("Cache-Control"))
        short = age is None or int(age[1]) <= 1
        self.findings.require(short, "a 404 of a live segment is not cached", answer.header("Cache-Control"))

    # ---- media ----

    def header(self, representation: Representation) -> isobmff.Header | None:
        url = representation.initialization
        if url not in self.headers:
            answer = get(url)
            self.findings.require(answer.status == 200, "the initialization is available", f"{url} {answer.status}")
            self.headers[url] = isobmff.read_header(answer.body) if answer.status == 200 else None
        return self.headers[url]

    def fragments(self, representation: Representation, url: str, key: tuple[object, ...]) -> list[isobmff.Fragment]:
        """The fragments of a segment that must be available now."""
        header = self.header(representation)
        answer = get(url)
        if answer.status != 200:
            self.findings.breaks("a segment is available at its time", f"{key} {answer.status}")
        if answer.status != 200 or header is None:
            return []
        found = isobmff.read_fragments(answer.body, header)
        if not found:
            # A segment that grows may end empty where its publisher went away.
            self.findings.require("growing" in key, "a segment has fragments", key)
            return []
        starts = not representation.is_video or representation.start_with_sap != "1" or found[0].first_is_sync
        self.findings.require(starts, "startWithSAP=1: a segment starts with a sync sample", key)
        return found


def judge(url: str, seconds: float, findings: Findings) -> None:
    """Follows a manifest until it is static, at most for `seconds`."""
    presentation = Presentation(url, findings)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        answer = get(url)
        manifest = mpd.parse(answer.body, url, findings) if answer.status == 200 else None
        if manifest is None:
            findings.breaks("the manifest is available", answer.status)
            time.sleep(1)
            continue
        if not manifest.dynamic:
            findings.require(manifest.has_duration, "a static manifest has a duration")
            findings.note("the manifest became static after", f"{presentation.polls} versions")
            break
        if presentation.polls == 0:
            kind = answer.header("Content-Type").partition(";")[0]
            findings.require(kind == "application/dash+xml", "content type of a manifest", kind)
            validate(answer.body, findings)
            presentation.clock(manifest)
        try:
            presentation.see(manifest, time.time())
        except isobmff.Malformed as error:
            findings.breaks("boxes are well-formed", error)
        time.sleep(min(max(manifest.update_period or 1.0, 0.5), MAX_POLL_SECONDS))
    findings.require(presentation.polls, "a dynamic manifest was seen")
    findings.note("manifests and segments", f"{presentation.polls}, {len(presentation.asked)}")


def validate(data: bytes, findings: Findings) -> None:
    """Validates a manifest by xmllint where a schema file is named."""
    schema = os.environ.get("MILLRACE_DASH_SCHEMA")
    if not schema:
        return
    if shutil.which("xmllint") is None:
        findings.note("not validated by the schema", "xmllint is not installed (Debian: libxml2-utils)")
        return
    command = ["xmllint", "--noout", "--nonet", "--schema", schema, "-"]
    done = subprocess.run(command, input=data, capture_output=True, timeout=30)
    findings.require(done.returncode == 0, "the manifest is valid by the schema", done.stderr.decode()[:400])
