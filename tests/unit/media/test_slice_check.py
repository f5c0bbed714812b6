"""Slices of real pictures can be read; those that are encrypted inside of valid NAL units often cannot."""

import random

import pytest

from gateway.media import nal
from gateway.media.slice_check import has_readable_slice, is_bidirectional
from gateway.media.track import AccessUnit, Codec, Kind, MediaTrack
from tests.support.sources import X264, pictures, source

X265 = (
    "-c:v",
    "libx265",
    "-preset",
    "ultrafast",
    "-x265-params",
    "log-level=error:keyint=15:bframes=2",
    "-tag:v",
    "hvc1",
)
FILMS = {
    "H.264": (*pictures("320x180", "30"), "-t", "2", *X264, "-g", "15", "-bf", "2"),
    "H.264, slices": (*pictures("320x180", "30"), "-t", "2", *X264, "-x264-params", "slices=4:open-gop=1:keyint=15"),
    "H.264, fields": (*pictures("320x180", "30"), "-t", "2", *X264, "-x264-params", "tff=1:keyint=15"),
    "H.265": (*pictures("320x180", "30"), "-t", "2", *X265),
}


def encrypted(unit: AccessUnit, chance: random.Random) -> bytes:
    """The picture with random bytes in its slices, of which no three look like a start code."""
    header = 1 if unit.track.codec is Codec.H264 else 2
    units = [bytes(one) for one in nal.views(unit.payload, 4)]
    return nal.join([one[:header] + bytes(chance.choices(range(1, 256), k=len(one) - header)) for one in units])


@pytest.mark.parametrize("name", FILMS)
def test_each_picture_of_an_encoder_can_be_read(name: str) -> None:
    film = source(*FILMS[name]).of(Kind.VIDEO)
    assert len(film) == 60
    assert all(has_readable_slice(unit.track, unit.payload) for unit in film)


@pytest.mark.parametrize("name", FILMS)
def test_many_encrypted_pictures_cannot_be_read(name: str) -> None:
    chance = random.Random(1)
    film = source(*FILMS[name]).of(Kind.VIDEO)
    checked = [has_readable_slice(unit.track, encrypted(unit, chance)) for unit in film]
    assert checked.count(False) > len(film) / 3


def test_other_codecs_and_other_units_are_not_judged() -> None:
    film = source(*FILMS["H.264"]).of(Kind.VIDEO)[0]
    assert has_readable_slice(MediaTrack(Kind.VIDEO, Codec.VP9, 1000, b""), film.payload) is None
    assert has_readable_slice(film.track, nal.join([b"\x09\xf0"])) is None
    assert has_readable_slice(film.track, b"\xff\xff\xff\xff\x65") is None
    assert has_readable_slice(film.track, nal.join([b"\x65"])) is False


def test_b_frames_are_those_that_are_shown_before_an_earlier_picture() -> None:
    film = source(*FILMS["H.264"]).of(Kind.VIDEO)
    shown = [unit.dts + unit.cts for unit in film]
    earlier = [n > 0 and at < max(shown[:n]) for n, at in enumerate(shown)]
    assert [is_bidirectional(unit.track, unit.payload) for unit in film] == earlier
    assert sum(earlier) > 30


@pytest.mark.parametrize("payload", [b"", b"\0\0\0\1\x41", b"\0\0\0\2\x41\0", bytes(40)])
def test_damaged_pictures_are_no_b_frames(payload: bytes) -> None:
    track = source(*FILMS["H.264"]).of(Kind.VIDEO)[0].track
    assert not is_bidirectional(track, payload)
