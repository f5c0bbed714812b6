"""Follows one Media Playlist for some seconds as a player does, and fetches every part and segment that it lists."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from urllib.parse import urljoin

from judges import isobmff
from judges.fetch import Answer, get
from judges.findings import Findings
from judges.hls_playlist import Part, Playlist, Segment, parse_media
from judges.hls_snapshots import Follower

CONTENT_TYPES = ("application/vnd.apple.mpegurl", "audio/mpegurl")
# Figures of durations have five decimals; a timescale of milliseconds rounds to one.
DURATION = 0.0011
# What a busy machine may add between the gateway's update and the answer's arrival, in seconds.
UPDATE_GRACE = 0.75
DELTA_EVERY = 4


@dataclass
class Media:
    """A fetched part or segment. fragments: empty for MPEG-TS."""

    data: bytes
    fragments: list[isobmff.Fragment]
    header: isobmff.Header | None

    @property
    def duration(self) -> float | None:
        """Seconds by the sample table; None for MPEG-TS."""
        if self.header is None:
            return None
        return sum(fragment.duration for fragment in self.fragments) / self.header.timescale

    @property
    def start(self) -> float:
        """Decode time of the first sample in seconds."""
        assert self.header is not None
        return self.fragments[0].start / self.header.timescale

    @property
    def is_video(self) -> bool:
        return self.header is not None and self.header.handler == "vide"


class Rendition(threading.Thread):
    """One Media Playlist over time: until ENDLIST, at most for `seconds`. paced: its publisher makes no pause."""

    def __init__(self, url: str, name: str, seconds: float, findings: Findings, *, paced: bool) -> None:
        super().__init__(daemon=True)
        self.url, self.label = url, name
        self.follower = Follower(name, findings)
        self.segments: dict[int, Media] = {}
        self.parts: dict[tuple[int, int], Media] = {}
        self.polls = 0
        self._seconds = seconds
        self._findings = findings
        self._paced = paced
        self._headers: dict[str, isobmff.Header | None] = {}
        self._edge: tuple[tuple[int, int], float] | None = None
        self._longest_pause = 0.0

    @property
    def last(self) -> Playlist | None:
        """The latest full playlist that came."""
        return self.follower.last

    def load(self, query: str = "") -> tuple[Answer, Playlist | None]:
        """Fetches the playlist; None where the answer is not 200."""
        separator = "&" if "?" in self.url else "?"
        answer = get(self.url + (separator + query if query else ""))
        if answer.status != 200:
            return answer, None
        require = self._findings.require
        kind = answer.header("Content-Type")
        require(kind.lower().startswith(CONTENT_TYPES), "4 content type of a playlist", kind)
        require(answer.header("Access-Control-Allow-Origin") == "*", "players of other sites may read it", self.url)
        try:
            text = answer.body.decode()
        except UnicodeDecodeError:
            self._findings.breaks("4.1 a playlist is UTF-8", self.url)
            text = answer.body.decode("latin-1")
        require(not text.startswith("\ufeff"), "4.1 a playlist has no byte order mark", self.url)
        return answer, parse_media(text, self.url, self._findings)

    def run(self) -> None:
        try:
            self._follow()
        except isobmff.Malformed as error:
            self._findings.breaks("boxes are well-formed", f"{self.label}: {error}")
        except Exception as error:  # a judge that fails must say so in its own line
            self._findings.breaks("the judge itself failed", f"{self.label}: {error!r}")

    def _follow(self) -> None:
        end = time.monotonic() + self._seconds
        answer, playlist = self.load()
        if playlist is None:
            self._findings.breaks("the playlist is available", f"{self.label} {answer.status}")
            return
        self._see(playlist)
        while time.monotonic() < end and not playlist.ended:
            newer = self._reload(playlist) if playlist.blocking else self._poll(playlist)
            if newer is not None:
                playlist = newer
                self.polls += 1
                self._see(playlist)
        self._removed_files_stay()
        self._findings.note(
            f"{self.label}: playlists, segments, parts", f"{self.polls}, {len(self.segments)}, {len(self.parts)}"
        )

    def _see(self, playlist: Playlist) -> None:
        self.follower.see(playlist, time.monotonic())
        if playlist.target is None:
            return
        self._pace(playlist, playlist.target)
        for segment in [*playlist.segments, *([] if playlist.ended else [playlist.open])]:
            for index, part in enumerate(segment.parts):
                self._fetch_part(segment.number, index, part, playlist)
        for segment in playlist.segments:
            self._fetch_segment(segment)

    def _pace(self, playlist: Playlist, target: int) -> None:
        """§6.2.1: a new part comes within a PART-TARGET, a new segment within 1.5 targets of the one before."""
        edge, now = (playlist.last, len(playlist.open.parts)), time.monotonic()
        judged = self._paced and not playlist.ended
        if judged and self._edge is not None and edge != self._edge[0]:
            pause = now - self._edge[1]
            limit = playlist.part_target or 1.5 * target
            self._longest_pause = max(self._longest_pause, pause)
            self._findings.note(f"{self.label}: longest time between updates", f"{self._longest_pause:.2f} s")
            words = f"{self.label} {pause:.2f} s, limit {limit:.2f}"
            self._findings.require(pause <= limit + UPDATE_GRACE, "6.2.1 updates come in time", words)
        if self._edge is None or edge != self._edge[0]:
            self._edge = edge, now

    # ---- reloads ----

    def _poll(self, playlist: Playlist) -> Playlist | None:
        time.sleep(max(0.3, (playlist.target or 1) / 2))
        answer, newer = self.load()
        self._findings.require(newer, "the playlist is available", f"{self.label} {answer.status}")
        return newer

    def _reload(self, playlist: Playlist) -> Playlist | None:
        number, count = playlist.last + 1, len(playlist.open.parts)
        query = f"_HLS_msn={number}" + (f"&_HLS_part={count}" if playlist.part_target else "")
        answer, newer = self.load(query)
        if answer.status == 503:  # §6.2.5.2: the update did not come in time; a player asks again
            return None
        if newer is None:
            self._findings.breaks("6.2.5.2 a blocking reload is answered", f"{self.label} {answer.status}")
            time.sleep(0.5)
            return self.load()[1]
        holds = newer.last >= number or (newer.last == number - 1 and len(newer.open.parts) > count)
        words = f"{self.label} asked {number}.{count}, got {newer.last} and {len(newer.open.parts)} parts"
        self._findings.require(holds or newer.ended, "6.2.5.2 a blocking answer holds what was asked for", words)
        if self.polls % DELTA_EVERY == DELTA_EVERY - 1 and not newer.ended:
            self._delta()
        return newer

    def _delta(self) -> None:
        """§6.2.5.1: a delta update keeps the numbers and everything within the skip boundary."""
        _, delta = self.load("_HLS_skip=YES")
        if delta is None or not delta.skipped:
            return
        kept = delta.duration + sum(part.duration for part in delta.open.parts)
        boundary = float(delta.control.get("CAN-SKIP-UNTIL", 0))
        words = f"{self.label} keeps {kept:.3f} s of {boundary}"
        self._findings.require(kept >= boundary - 1e-6, "6.2.5.1 a delta keeps what is inside CAN-SKIP-UNTIL", words)
        for segment in delta.segments:
            known = self.follower.segments.get(segment.number)
            if known is not None:
                same = (known.segment.uri, known.segment.duration) == (segment.uri, segment.duration)
                self._findings.require(same, "6.2.5.1 a delta numbers alike", f"{self.label} {segment.number}")

    # ---- media ----

    def _header(self, uri: str | None) -> isobmff.Header | None:
        if uri is None:
            return None
        if uri not in self._headers:
            answer = get(urljoin(self.url, uri))
            self._findings.require(answer.status == 200, "the MAP is available", f"{uri} {answer.status}")
            self._headers[uri] = isobmff.read_header(answer.body) if answer.status == 200 else None
        return self._headers[uri]

    def _fetch(self, uri: str, map_uri: str | None) -> Media | None:
        answer = get(urljoin(self.url, uri))
        if answer.status != 200:
            self._findings.breaks("a listed file is available", f"{self.label} {uri} {answer.status}")
            return None
        header = self._header(map_uri)
        fragments = isobmff.read_fragments(answer.body, header) if header is not None else []
        return Media(answer.body, fragments, header)

    def _fetch_part(self, number: int, index: int, part: Part, playlist: Playlist) -> None:
        if (number, index) in self.parts or part.gap:
            return
        latest = playlist.segments[-1].map_uri if playlist.segments else None
        media = self._fetch(part.uri, part.map_uri or latest)
        if media is None:
            return
        self.parts[number, index] = media
        if media.duration is None:
            return
        require, words = self._findings.require, f"{self.label} {number}.{index}"
        off = abs(media.duration - part.duration)
        require(off <= DURATION, "DURATION of a part is its samples'", f"{words} {part.duration} {media.duration:.5f}")
        if media.is_video:
            key = any(fragment.has_sync for fragment in media.fragments)
            require(key or not part.independent, "4.4.4.9 an INDEPENDENT part has a key frame", words)
            require(part.independent or not key, "4.4.4.9 a part with a key frame is INDEPENDENT (should)", words)
        else:
            require(part.independent, "4.4.4.9 a part of sound is INDEPENDENT (should)", words)

    def _fetch_segment(self, segment: Segment) -> None:
        if segment.number in self.segments or segment.gap:
            return
        media = self._fetch(segment.uri, segment.map_uri)
        if media is None:
            return
        self.segments[segment.number] = media
        if media.duration is None or media.header is None:
            return
        require, words = self._findings.require, f"{self.label} {segment.number}"
        off = abs(media.duration - (segment.duration or 0.0))
        require(off <= DURATION, "EXTINF is the samples' duration", f"{words} {segment.duration} {media.duration:.5f}")
        self._continuous(segment, media)
        if media.is_video and not media.fragments[0].first_is_sync:
            self._findings.note(f"{self.label}: a segment without a sync sample at its start", segment.number)
        self._same_samples(segment, media)

    def _continuous(self, segment: Segment, media: Media) -> None:
        require, words = self._findings.require, f"{self.label} {segment.number}"
        expected = media.fragments[0].start
        for fragment in media.fragments:
            off = fragment.start - expected
            require(off == 0, "tfdt goes on inside a segment", f"{words} off {off}")
            require(fragment.base_is_moof, "CMAF 7.5.16 default-base-is-moof", words)
            expected = fragment.start + fragment.duration
        before = self.segments.get(segment.number - 1)
        known = self.follower.segments.get(segment.number - 1)
        if before is None or known is None or segment.discontinuity or known.segment.map_uri != segment.map_uri:
            return
        end = before.fragments[-1].start + before.fragments[-1].duration
        off = media.fragments[0].start - end
        require(off == 0, "tfdt goes on from segment to segment", f"{words} off {off}")

    def _same_samples(self, segment: Segment, media: Media) -> None:
        parts = [self.parts.get((segment.number, index)) for index in range(len(segment.parts))]
        if not parts or None in parts:
            return
        samples = [duration for part in parts if part for f in part.fragments for duration in f.durations]
        whole = [duration for fragment in media.fragments for duration in fragment.durations]
        words = f"{self.label} {segment.number} {len(samples)} {len(whole)}"
        self._findings.require(samples == whole, "a segment holds its parts' samples", words)

    # ---- what went away ----

    def _removed_files_stay(self) -> None:
        """§6.2.2: removed parts stay for three targets, removed segments for their own and the longest duration."""
        last = self.last
        if last is None or last.target is None:
            return
        now = time.monotonic()
        for key, gone in self.follower.gone_parts.items():
            if now - gone < 3 * last.target - 0.5:
                status = get(urljoin(self.url, self.follower.parts[key].uri)).status
                words = f"{self.label} {key} {now - gone:.1f} s ago: {status}"
                self._findings.require(status == 200, "6.2.2 a removed part stays for three targets", words)
        for number, gone in self.follower.gone_segments.items():
            segment = self.follower.segments[number].segment
            stays = (segment.duration or 0.0) + self.follower.longest
            if now - gone < stays - 1:
                status = get(urljoin(self.url, segment.uri)).status
                words = f"{self.label} {number} {now - gone:.1f} s ago, must stay {stays:.1f}: {status}"
                rule = "6.2.2 a removed segment stays for its duration and the longest playlist's"
                self._findings.require(status == 200, rule, words)
