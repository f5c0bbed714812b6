"""WebVTT in fragments, read back by PyAV and our own reader."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence

import av
from hypothesis import given
from hypothesis import strategies as st

from gateway.formats.mp4 import reader
from gateway.formats.mp4.webvtt_track import wvtt_fragment, wvtt_init
from gateway.media.caption_cue import CaptionCue

SECOND = 90_000
EMPTY = b"\x00\x00\x00\x08vtte"


def shown(start: int, end: int, cues: Sequence[CaptionCue]) -> list[tuple[int, int, list[str]]]:
    """Returns (start, end, texts) of all samples of a fragment."""
    [track] = reader.parse_fragments(wvtt_fragment(1, start, end, cues))
    at, found = track.base_decode_time, []
    for sample in track.samples:
        texts = []
        for cue in reader.boxes(sample.payload):
            payload = reader.find(sample.payload, b"payl", start=cue.payload, end=cue.end)
            if cue.kind == b"vttc" and payload is not None:
                texts.append(sample.payload[payload.payload : payload.end].decode())
            else:
                assert sample.payload == EMPTY
        found.append((at, at + sample.duration, texts))
        at += sample.duration
    return found


def test_samples_cover_the_fragment_with_the_cues_of_each_moment() -> None:
    cues = [CaptionCue(2 * SECOND, None, "open"), CaptionCue(0, 3 * SECOND, "early"), CaptionCue(9, 9 * SECOND, " ")]
    assert shown(SECOND, 5 * SECOND, cues) == [
        (SECOND, 2 * SECOND, ["early"]),
        (2 * SECOND, 3 * SECOND, ["early", "open"]),
        (3 * SECOND, 5 * SECOND, ["open"]),
    ]


def test_a_time_without_cues_is_an_empty_cue() -> None:
    cues = [CaptionCue(0, SECOND, "before"), CaptionCue(2 * SECOND, 3 * SECOND, "after")]
    assert shown(SECOND, 2 * SECOND, cues) == [(SECOND, 2 * SECOND, [])]


def test_markup_is_escaped_and_the_line_is_a_setting() -> None:
    data = wvtt_fragment(1, 0, SECOND, [CaptionCue(0, SECOND, "<b>&\n\nx", 10)])
    assert data.endswith(b"\x00\x00\x00\x10sttgline:10%\x00\x00\x00\x18payl&lt;b&gt;&amp;\nx")


def test_a_cue_keeps_its_number_in_the_next_fragment() -> None:
    cue = CaptionCue(SECOND, 5 * SECOND, "long")
    numbers = [re.findall(b"vsid(....)", wvtt_fragment(1, n * SECOND, (n + 2) * SECOND, [cue]), re.S) for n in (0, 2)]
    assert numbers[0] and numbers[0] == numbers[1]


@given(
    st.integers(0, 1 << 40),
    st.integers(0, 60),
    st.lists(st.tuples(st.integers(-30, 90), st.none() | st.integers(-30, 90), st.sampled_from(["a", "b", ""]))),
)
def test_each_moment_shows_the_cues_that_are_active_then(start: int, length: int, given_cues: list) -> None:
    cues = [CaptionCue(start + a, None if b is None else start + b, text) for a, b, text in given_cues]
    samples = shown(start, start + length, cues)
    assert [a for a, _, _ in samples] + [start + length] == [start] + [b for _, b, _ in samples]
    for at, until, texts in samples:
        for moment in {at, until - 1}:
            active = [c.text for c in cues if c.text and c.start <= moment and (c.end is None or c.end > moment)]
            assert sorted(texts) == sorted(active)


def test_pyav_reads_the_track_with_its_times_and_language() -> None:
    cues = [CaptionCue(SECOND, 2 * SECOND, "one"), CaptionCue(2 * SECOND, 4 * SECOND, "two")]
    init = wvtt_init(1, "de-CH")
    data = init + wvtt_fragment(1, 0, 3 * SECOND, cues, styp=True) + wvtt_fragment(2, 3 * SECOND, 5 * SECOND, cues)
    with av.open(io.BytesIO(data)) as film:
        [stream] = film.streams
        assert stream.time_base.denominator == SECOND
        assert stream.metadata["language"] == "deu"
        packets = [p for p in film.demux() if p.dts is not None]
    assert [p.pts // SECOND for p in packets] == [0, 1, 2, 3, 4]
    assert [re.findall(b"payl(.*)", bytes(p)) for p in packets] == [[], [b"one"], [b"two"], [b"two"], []]
    entry = reader.find(init, b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"wvtt")
    assert entry is not None and init[entry.payload : entry.end].endswith(b"\x00\x00\x00\x0evttCWEBVTT")
