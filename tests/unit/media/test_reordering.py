"""Whether pictures are shown in another order than they are sent: from parameter sets, and from their times."""

from __future__ import annotations

import pytest

from gateway.media.reordering import declared_reordering, has_reordering
from gateway.media.track import Codec, Kind, MediaTrack
from tests.support import builders
from tests.support.sources import X264, pictures, source

HEVC = ("-c:v", "libx265", "-x265-params", "log-level=none:bframes={}", "-preset", "ultrafast", "-pix_fmt", "yuv420p")


def track_of(*coder: str) -> MediaTrack:
    film = source(*pictures(), "-t", "0.5", *coder)
    assert film.tracks.video is not None
    return film.tracks.video


@pytest.mark.parametrize(
    ("coder", "declared"),
    [
        ((*X264, "-bf", "2", "-pix_fmt", "yuv420p"), True),
        ((*X264, "-bf", "0", "-pix_fmt", "yuv420p"), False),
        ((*X264, "-profile:v", "baseline", "-pix_fmt", "yuv420p"), False),
        (tuple(word.format(3) for word in HEVC), True),
        (tuple(word.format(0) for word in HEVC), False),
    ],
    ids=["x264", "x264 without", "baseline", "x265", "x265 without"],
)
def test_parameter_sets_of_encoders_declare_reordering(coder: tuple[str, ...], declared: bool) -> None:
    track = track_of(*coder)
    assert declared_reordering(track) is declared
    assert has_reordering(track, []) is declared


@pytest.mark.parametrize("codec", [Codec.VP8, Codec.VP9, Codec.AV1])
def test_codecs_with_hidden_pictures_in_units_have_no_reordering(codec: Codec) -> None:
    assert not has_reordering(MediaTrack(Kind.VIDEO, codec, 1000, b""), [builders.picture(0, True, cts=40)])


def test_without_a_declaration_the_times_of_the_units_decide() -> None:
    track = MediaTrack(Kind.VIDEO, Codec.H264, 1000, b"")
    assert declared_reordering(track) is None
    plain = [builders.picture(n * 40, n == 0) for n in range(10)]
    assert not has_reordering(track, plain)
    assert not has_reordering(track, [])
    # I P B B: the pictures after P are shown before it.
    reordered = [builders.picture(n * 40, n == 0, cts=cts) for n, cts in enumerate((40, 120, 0, 0))]
    assert has_reordering(track, reordered)
    assert has_reordering(track, reordered[:1]), "of so few pictures, an offset may be that of B-frames"


def test_an_equal_offset_of_all_pictures_is_no_reordering() -> None:
    """The H.264 encoder of AMD in OBS shows every picture one later than it is sent, also without B-frames."""
    track = MediaTrack(Kind.VIDEO, Codec.H264, 1000, b"")
    shifted = [builders.picture(n * 33, n == 0, cts=33 + n % 2) for n in range(10)]
    assert not has_reordering(track, shifted)
    declaring = track_of(*X264, "-bf", "2", "-pix_fmt", "yuv420p")
    assert has_reordering(declaring, shifted), "an encoder that declares B-frames sends them later"


def test_an_encoder_that_declares_but_never_uses_reordering_has_none() -> None:
    track = track_of(*X264, "-bf", "2", "-pix_fmt", "yuv420p")
    plain = [builders.picture(n * 40, n == 0) for n in range(4)]
    assert has_reordering(track, plain[:3])
    assert not has_reordering(track, plain)


def test_rounded_milliseconds_and_offsets_of_sound_are_no_reordering() -> None:
    track = MediaTrack(Kind.VIDEO, Codec.H264, 1000, b"")
    units = [builders.picture(n * 33, n == 0, cts=n % 2) for n in range(10)]
    assert not has_reordering(track, [*units, builders.sound(400)])
