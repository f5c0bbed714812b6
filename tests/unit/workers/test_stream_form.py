"""The form of a slate follows the publisher's tracks and metadata."""

from fractions import Fraction

import pytest

from gateway.media.errors import InvalidData
from gateway.media.track import AmfValue, Codec, Kind, MediaTrack, Tracks
from gateway.protocols import wire
from gateway.workers.slate_protocol import SlateRequest
from gateway.workers.stream_form import DEFAULT_AUDIO, StreamForm
from tests.support.builders import AUDIO, VIDEO


def form(metadata: dict[str, AmfValue] | None = None, video: MediaTrack | None = VIDEO) -> StreamForm:
    return StreamForm.of(Tracks(video, AUDIO, 0, metadata or {}))


def test_without_a_publisher_the_form_has_default_values() -> None:
    unknown = StreamForm.of(None)
    assert (unknown.has_video, unknown.size, unknown.rate, unknown.audio) == (True, (1280, 720), 30, DEFAULT_AUDIO)
    assert unknown.gop == 60


def test_the_form_has_the_publishers_size_rate_and_tracks() -> None:
    given = form({"framerate": 25.0, "videodatarate": 2500.0})
    assert (given.video, given.audio, given.size, given.rate, given.bitrate) == (
        VIDEO,
        AUDIO,
        (1280, 720),
        25,
        2_500_000,
    )


@pytest.mark.parametrize(
    ("declared", "rate"),
    [
        (29.97, Fraction(30_000, 1001)),
        (59.94005994, Fraction(60_000, 1001)),
        (23.976, Fraction(24_000, 1001)),
        (12.5, Fraction(25, 2)),
        (60, Fraction(60)),
        (0.0, Fraction(30)),
        (1e9, Fraction(30)),
        (float("nan"), Fraction(30)),
        ("30", Fraction(30)),
        (True, Fraction(30)),
    ],
)
def test_the_rate_of_the_metadata_is_checked(declared: AmfValue, rate: Fraction) -> None:
    assert form({"framerate": declared}).rate == rate


def test_a_size_that_the_configuration_lacks_comes_from_the_metadata() -> None:
    vp9 = MediaTrack(Kind.VIDEO, Codec.VP9, 1000, b"")
    assert form({"width": 641.0, "height": 360.0}, vp9).size == (640, 360)
    assert form({"width": 1e9, "height": 360.0}, vp9).size == (1280, 720)
    assert form({}, MediaTrack(Kind.VIDEO, Codec.H264, 1000, b"broken")).size == (1280, 720)


def test_the_worker_reads_a_form_written_by_the_gateway() -> None:
    given = form({"framerate": 29.97})
    assert StreamForm.from_json(given.to_json(), Tracks(VIDEO, AUDIO)) == given


@pytest.mark.parametrize(
    "fields",
    [{}, {"rate": "1", "size": 2}, {"rate": "1/0", "size": [2, 2]}, {"rate": "x", "size": [2, 2]}],
)
def test_invalid_messages_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(InvalidData):
        StreamForm.from_json({"bitrate": 1, "has_video": True, **fields}, Tracks(None, None))
    with pytest.raises(InvalidData):
        wire.decode_record(SlateRequest, wire.write_json(fields))
