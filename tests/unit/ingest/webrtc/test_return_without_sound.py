"""The units of a WHIP push that returns."""

from itertools import pairwise

from gateway.ingest.webrtc.sound_on_demand import AAC_TRACK
from gateway.ingest.webrtc.whip_units import WhipUnits
from gateway.media.clock import VIDEO_CLOCK
from gateway.media.track import AccessUnit, Codec, Kind, MadeSilence, MediaTrack
from tests.support import builders
from tests.support.builders import AVCC, VIDEO, Recorder, picture, publish


async def test_a_publisher_that_returns_without_a_microphone_is_silent():
    hub = builders.hub()
    before = publish(hub)
    before.set_tracks(VIDEO, AAC_TRACK, {})
    before.push(picture(0, key=True), 1.0)
    before.close()
    publisher, sink = publish(hub), Recorder()
    publisher.stream.attach(sink)
    units, video = WhipUnits(publisher, {Kind.VIDEO}, None), MediaTrack(Kind.VIDEO, Codec.H264, VIDEO_CLOCK, AVCC)
    for at in range(0, 4_000, 40):
        units.take_unit(AccessUnit(video, 90 * at, 0, at % 1000 == 0, 0.0, b"\0\0\0\1x"), 2.0 + at / 1000)
    assert {tracks.audio and tracks.audio.config for tracks in sink.tracks} == {AAC_TRACK.config}
    silence = [unit.dts for unit in sink.units if type(unit) is MadeSilence]
    assert len(silence) > 150
    assert max(after - before for before, after in pairwise(silence)) <= 22 * 90
    publisher.close()
    hub.drain()
    await hub.drained()
