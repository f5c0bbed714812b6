"""Pictures for Kinesis declare the colors that they have: limited range, and SDR."""

from __future__ import annotations

from contextlib import closing

import pytest

from gateway.media import h264
from gateway.media.colors import VideoSignal
from gateway.media.track import Kind, MediaTrack
from gateway.workers.programs.keyframe_reencoder import KeyframeReencoder
from gateway.workers.programs.vod.media_file import MediaFile
from gateway.workers.programs.vod.play_worker import EncodedVideo
from tests.support import films
from tests.support.recording_link import RecordingLink
from tests.support.sources import X264, read

SOURCES = {
    "full range": ("-pix_fmt", "yuvj420p"),
    "PQ": (
        *("-pix_fmt", "yuv420p10le"),
        *("-x264-params", "colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc"),
    ),
}


def signal(track: MediaTrack) -> VideoSignal:
    return h264.parse_sps(h264.parse_avcc(track.config).sps[0]).signal


@pytest.mark.parametrize("name", SOURCES)
def test_converted_pictures_declare_limited_range_and_sdr(name: str) -> None:
    path = films.silent(f"{name.replace(' ', '-')}.mp4", films.PICTURE, *X264, *SOURCES[name], seconds=1)
    source = read(path)
    assert source.tracks.video is not None
    given = signal(source.tracks.video)
    assert given.full_range or given.range == "PQ"

    link = RecordingLink()
    worker = KeyframeReencoder(link)
    worker.change(source.tracks)
    for unit in source.of(Kind.VIDEO):
        worker.take(unit)
    worker.finish()
    with closing(MediaFile(path)) as film:
        played = next(iter(EncodedVideo(film, (320, 180))))

    (tracks,) = link.tracks
    assert tracks.video is not None
    for track in (tracks.video, played.track):
        assert (signal(track).full_range, signal(track).range) == (False, "SDR")
