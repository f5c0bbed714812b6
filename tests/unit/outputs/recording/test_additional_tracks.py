"""Additional tracks in MP4 recordings: every unit is in one piece, cut where the default picture is cut."""

from io import BytesIO

import pytest

from gateway.channels.fields import RECORD_TRACKS, TrackChoice
from gateway.formats.mp4.finish import finish
from gateway.formats.mp4.init import packed_language
from gateway.formats.mp4.reader import parse_fragments
from gateway.live.fanout import Fanout
from gateway.live.gop_cache import GopCache
from gateway.live.pushed_tracks import PushedTrack, TrackInfo
from gateway.media.track import Kind, Tracks
from gateway.outputs.recording.additional_track import AdditionalTrack
from gateway.outputs.recording.cutter import Cutter, PieceStart
from gateway.outputs.recording.mp4_piece import AdditionalMedia, AdditionalSample, Mp4Piece
from tests.support.builders import AUDIO, VIDEO, picture, sound


class Piece:
    def __init__(self) -> None:
        self.closed = False
        self.samples: list[AdditionalSample] = []

    def add_additional(self, media: AdditionalMedia, sample: AdditionalSample) -> None:
        self.samples.append(sample)


def pushed(kind: Kind, name: str = "t", **info: str) -> PushedTrack:
    track = VIDEO if kind is Kind.VIDEO else AUDIO
    return PushedTrack(1, kind, name, Fanout(GopCache(1000, 1.0)), track, TrackInfo(**info))


def test_pictures_change_pieces_at_their_key_frame_and_sound_at_the_cut() -> None:
    video = AdditionalTrack(pushed(Kind.VIDEO), picture(0, True))
    audio = AdditionalTrack(pushed(Kind.AUDIO), sound(0))
    before, after = Piece(), Piece()
    for n in range(25):
        video.hold(picture(n * 40, key=n % 10 == 0))
        audio.hold(sound(n * 40))
    cut = 400 * 90  # the 11th picture, which is a key frame
    for track in (video, audio):
        track.write(cut - 1, 0, None, before)
        track.write(None, cut, before, after)
    pictures = [s for s in before.samples if not s.length]
    assert len(pictures) == 10
    assert len([s for s in after.samples if not s.length]) == 15
    sounds = [s.time for s in before.samples if s.length]
    assert max(sounds) * 90_000 // audio.media.timescale < cut
    assert len(before.samples) + len(after.samples) == 50
    assert not video.dropped and not audio.dropped


def test_units_ahead_of_the_default_picture_wait_up_to_a_limit() -> None:
    track = AdditionalTrack(pushed(Kind.VIDEO), picture(0, True))
    piece = Piece()
    for n in range(600):
        track.hold(picture(n * 40, key=True))
    assert track.dropped == 100
    track.write(300 * 40 * 90, 0, None, piece)
    assert len(piece.samples) == 201


def test_a_piece_has_languages_and_names_and_all_samples() -> None:
    pieces: list[Mp4Piece] = []

    def make(start: PieceStart) -> Mp4Piece:
        pieces.append(Mp4Piece(start))
        return pieces[-1]

    cutter = Cutter(Tracks(VIDEO, AUDIO), 100.0, make)
    cutter.waits = True
    french = AdditionalTrack(pushed(Kind.AUDIO, "audio1", language="fr-CA", label="Québec"), sound(0))
    small = AdditionalTrack(pushed(Kind.VIDEO, "360p"), picture(0, True))
    for n in range(60):
        cutter.add(picture(n * 40, key=n % 25 == 0))
        cutter.add(sound(n * 40))
        french.hold(sound(n * 40))
        small.hold(picture(n * 40, key=n % 25 == 0))
        for track in (french, small):
            track.write(cutter.reached, cutter.cut, None, pieces[-1])
    for track in (french, small):
        track.write(None, cutter.cut, None, pieces[-1])
    cutter.finish()
    (piece,) = pieces
    data = b"".join(piece.pop_data())
    assert piece.dropped == 0
    counts: dict[int, int] = {}
    for fragment in parse_fragments(data):
        counts[fragment.track_id] = counts.get(fragment.track_id, 0) + len(fragment.samples)
    assert counts == {1: 60, 2: 60, 3: 60, 4: 60}
    out = BytesIO()
    finish(BytesIO(data), out)
    movie = out.getvalue()
    assert "Québec".encode() in movie
    assert b"elng" in movie and b"fr-CA\0" in movie
    assert packed_language("fr-CA").to_bytes(2, "big") in movie


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ("default", frozenset()),
        ("", frozenset()),
        ("all", None),
        ("720p, FR", frozenset({"720p", "fr"})),
    ],
)
def test_a_text_selects_the_tracks_of_a_recording(value: str, names: frozenset[str] | None) -> None:
    assert RECORD_TRACKS.read(value) == TrackChoice(names)


@pytest.mark.parametrize("value", [5, None, ["720p"], "720p;all", ",", "x" * 40, ",".join(["a"] * 17)])
def test_other_texts_are_refused(value: object) -> None:
    with pytest.raises(ValueError, match="expected default"):
        RECORD_TRACKS.read(value)


def test_a_choice_matches_a_track_by_name_or_language() -> None:
    choice = RECORD_TRACKS.read("720p,fr")
    assert choice.includes("720p", "")
    assert choice.includes("audio1", "FR")
    assert not choice.includes("audio2", "")
    assert RECORD_TRACKS.read("all").includes("audio2", "")
    assert not RECORD_TRACKS.read("default").includes("audio2", "fr")
