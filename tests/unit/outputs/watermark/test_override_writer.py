"""What viewers of a watermark get while the pictures of the source pause."""

from gateway.media.track import Codec, Kind, MediaTrack, Tracks
from gateway.outputs.watermark.override_writer import OverrideWriter
from tests.support import builders
from tests.support.builders import AUDIO, AVCC, VIDEO, Recorder, picture, sound

CODED = MediaTrack(Kind.VIDEO, Codec.H264, 1000, AVCC + b"\0")


def writing() -> tuple[OverrideWriter, Recorder]:
    """Returns a writer that has written the picture at 0 ms, and what a viewer got."""
    stream, viewer = builders.stream(), Recorder()
    stream.attach(viewer)
    writer = OverrideWriter(stream.override(), 16_000)
    writer.engage(Tracks(VIDEO, AUDIO, 0))
    writer.set_coded_tracks(Tracks(CODED, None, 0))
    writer.add(picture(0, key=True))
    writer.add_picture(picture(0, key=True, track=CODED))
    return writer, viewer


def test_sound_goes_on_while_the_last_pictures_wait_in_the_worker() -> None:
    writer, viewer = writing()
    writer.add(picture(40))
    for at in range(60, 2_040, 20):
        writer.add(sound(at))
    assert [unit.dts for unit in viewer.units] == [0], "the picture at 40 ms may still come"
    for at in range(2_040, 30_000, 20):
        writer.add(sound(at))
    assert [unit.dts for unit in viewer.units] == [0, *range(60, 30_000, 20)]
    writer.add(picture(30_000))
    writer.add(sound(30_010))
    assert viewer.units[-1].dts == 29_980
    writer.add_picture(picture(40, track=CODED))
    writer.add_picture(picture(30_000, track=CODED))
    assert [unit.dts for unit in viewer.units if unit.track is CODED] == [0, 40, 30_000]
    assert viewer.units[-1].dts == 30_010


def test_sound_without_video_does_not_wait_for_pictures_that_never_come() -> None:
    writer, viewer = writing()
    writer.add(picture(40))
    writer.add(Tracks(None, AUDIO, 1))
    writer.add(sound(60))
    assert len(viewer.tracks) == 1
    writer.add(sound(2_060))
    assert viewer.tracks[-1].video is None
    writer.add_picture(picture(40, track=CODED))
    assert [unit.dts for unit in viewer.units] == [0, 60, 2_060]
