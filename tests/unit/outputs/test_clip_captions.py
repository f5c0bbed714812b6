"""Captions of a clip: a text track that PyAV and ffmpeg read, beside pictures and sound that do not change."""

from __future__ import annotations

import io
import subprocess
from dataclasses import replace
from pathlib import Path

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.adapters.local.objects import LocalObjects
from gateway.formats.captions.caption_file import read_caption_file
from gateway.formats.captions.webvtt import webvtt
from gateway.formats.mp4.timed_text import text_samples
from gateway.live.stream_captions import StreamCaptions
from gateway.media.caption_cue import CaptionCue
from gateway.media.timed_data import CaptionText
from gateway.media.track import AccessUnit, MediaTrack, TimedData
from gateway.outputs.clips.clip_captions import captions_of
from gateway.outputs.clips.joiner import Joiner
from gateway.outputs.clips.sources import SourcePiece
from gateway.outputs.storage.stored_pieces import StoredPiece
from gateway.packaging.caption_pieces import CaptionCutter
from gateway.ports import media_keys
from tests.support import builders
from tests.support.elementary import elementary
from tests.support.time_outs import at_most
from tests.support.tools import need

SECOND, WALL = 90_000, 1_700_000_000.0


def units(name: str) -> list[AccessUnit]:
    """The units of a stream, in ticks of 90 kHz."""
    source = elementary(name)
    track: MediaTrack = replace(source.track, timescale=SECOND)
    scale = source.track.timescale
    return [
        AccessUnit(track, t.dts * SECOND // scale, t.cts * SECOND // scale, t.key, 0.0, t.payload) for t in source.takes
    ]


def clip(path: Path, captions: list[CaptionCue], start: float = 0.0) -> Path:
    media = io.BytesIO()
    joiner = Joiner(media, WALL + start, WALL + 2)
    joiner.begin_piece(WALL, False)
    joiner.add(sorted([*units("h264-b"), *units("aac")], key=lambda unit: unit.dts), True)
    head = joiner.finish(captions, "de-CH")
    assert head is not None and joiner.started is not None and abs(joiner.started - WALL - start) < 0.05
    path.write_bytes(head.data + media.getvalue())
    assert head.media == len(media.getvalue())
    return path


SPOKEN = [
    CaptionCue(SECOND // 2, SECOND, "Grüß <b>Gott</b>\nzweite Zeile"),
    CaptionCue(SECOND, None, "שלום 🎬"),
    CaptionCue(-SECOND, SECOND // 4, "before"),
    CaptionCue(9 * SECOND, 10 * SECOND, "after the end"),
]


def test_ffmpeg_reads_the_captions_at_their_times(tmp_path: Path) -> None:
    need("ffmpeg")
    made = tmp_path / "made.srt"
    path = clip(tmp_path / "clip.mp4", SPOKEN)
    subprocess.run(["ffmpeg", "-v", "error", "-i", path, "-map", "0:s", made], check=True, timeout=at_most(30))
    text = made.read_text()
    cues = read_caption_file(made.read_bytes())
    assert [(c.start // 90, c.text) for c in cues] == [
        (0, "before"), (500, "Grüß Gott\nzweite Zeile"), (1000, "שלום 🎬"),
    ]  # fmt: skip
    assert "<b>Gott</b>" in text  # ffmpeg writes it as it is: the movie's text has no markup
    assert [c.end and c.end // 90 for c in cues[:2]] == [250, 1000]


def test_times_count_from_the_start_of_a_clip_inside_a_group_of_pictures(tmp_path: Path) -> None:
    need("ffmpeg")
    made = tmp_path / "made.srt"
    path = clip(tmp_path / "clip.mp4", [CaptionCue(SECOND // 2, SECOND, "half a second after the start")], 0.4)
    subprocess.run(["ffmpeg", "-v", "error", "-i", path, "-map", "0:s", made], check=True, timeout=at_most(30))
    assert [cue.start // 90 for cue in read_caption_file(made.read_bytes())] == [500]


def test_pictures_and_sound_are_those_of_a_clip_without_captions(tmp_path: Path) -> None:
    plain, captioned = clip(tmp_path / "plain.mp4", [], 0.4), clip(tmp_path / "captioned.mp4", SPOKEN, 0.4)
    found = []
    for path in (plain, captioned):
        with av.open(str(path)) as movie:
            media = [stream for stream in movie.streams if stream.type in ("video", "audio")]
            found.append([(p.stream_index, p.pts, p.dts, bytes(p)) for p in movie.demux(*media) if p.pts is not None])
            texts = [(s.codec_context.name, s.language) for s in movie.streams.subtitles]
            assert texts == ([] if path is plain else [("mov_text", "deu")])
    assert found[0] == found[1]


@given(st.lists(st.tuples(st.integers(-5, 30), st.integers(1, 30), st.text(max_size=30))), st.integers(1, 40))
def test_samples_cover_the_movie_and_tell_their_length(given_cues: list[tuple[int, int, str]], end: int) -> None:
    samples = text_samples(0, end, [CaptionCue(at, at + length, text) for at, length, text in given_cues])
    assert sum(duration for duration, _ in samples) == end
    assert all(int.from_bytes(sample[:2], "big") == len(sample[2:].decode().encode()) for _, sample in samples)


def test_a_sample_has_at_most_65_535_bytes_of_whole_characters() -> None:
    ((_, sample),) = text_samples(0, 1, [CaptionCue(0, 1, "🎬" * 500)] * 40)
    assert len(sample) <= 2 + 0xFFFF and sample[2:].decode().startswith("🎬")


@pytest.mark.parametrize("end", [12_345, None])
async def test_a_caption_in_two_pieces_is_shown_once(tmp_path: Path, end: int | None) -> None:
    objects, captions, text = LocalObjects(tmp_path / "store"), StreamCaptions(tuple), "read for three seconds" * 3
    captions.take(TimedData(8_001, CaptionText(text, 8_001, end)))
    cutter, pieces = CaptionCutter(captions), []
    for start, stop in ((0.0, 10.0033), (10.0033, 20.0)):  # seconds
        begin, key = round(start * SECOND), media_keys.video_key("c1", round((WALL + start) * 1000))
        cues = (cutter.cut(begin, round(stop * SECOND), SECOND) or {})["text"]
        (tmp_path / "made.vtt").write_bytes(webvtt(cues, begin))
        await objects.put(media_keys.captions_key(key, "text"), tmp_path / "made.vtt")
        piece = StoredPiece(key, media_keys.MediaKind.VIDEO, WALL + start, stop - start, False)
        pieces.append(SourcePiece(piece, WALL + stop))
    channel = builders.channel(captions=[{"source": "text"}])
    found = await captions_of(objects, channel, None, pieces, WALL)
    assert [sample[2:].decode() for _, sample in text_samples(0, 20 * SECOND, found.cues)] == ["", text, ""]
