"""A source and its ladder: the form of the renditions, changes of the source, and deaths of a worker."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise

import pytest

from gateway.live import output_fault
from gateway.live.sink import EndReason
from gateway.media import aac, codecs
from gateway.media.timed_data import Script
from gateway.media.track import Codec, Kind, TimedData, Tracks
from gateway.outputs import dropped_units
from gateway.outputs.ladder import ladder_output
from gateway.workers.programs.codec import VideoDecoder
from tests.support import builders
from tests.support.at_night import at_night
from tests.support.children import children
from tests.support.ladder_rig import LadderHub, Viewer, ladder
from tests.support.sources import AAC, X264, Source, h264, pictures, source, tone

RUNGS = {"360p": (640.0, 360.0), "480p": (854.0, 480.0), "720p": (1280.0, 720.0)}


def hd(seconds: float, gop: int = 10, bframes: int = 2) -> Source:
    """A source for all three rungs. It has few pictures, because three encoders need much of the processor."""
    return h264("1280x720", seconds, rate=10, gop=gop, bframes=bframes)


def times(film: Source) -> list[int]:
    return sorted(u.dts + u.cts for u in film.of(Kind.VIDEO))


def key_times(film: Source) -> list[int]:
    return [u.dts + u.cts for u in film.of(Kind.VIDEO) if u.key]


def worker_pids() -> list[int]:
    """Returns the ladder workers below this process."""
    return children("gateway.workers.programs.ladder.ladder_worker")


def decodes(viewer: Viewer) -> None:
    """Checks that every picture of the rendition can be decoded, at its time."""
    shown: list[int] = []
    for tracks in {t.epoch: t for t in viewer.tracks}.values():
        assert tracks.video is not None
        decoder = VideoDecoder(tracks.video)
        units = [u for u in viewer.pictures if u.track == tracks.video]
        shown += [p.pts for u in units for p in decoder.decode(u)] + [p.pts for p in decoder.flush()]
        assert decoder.damaged == 0
    assert sorted(set(shown)) == sorted(set(viewer.shown))


async def made_of(film: Source, **fields: object) -> dict[str, Viewer]:
    """Returns the renditions of a film that is pushed whole."""
    async with ladder() as rig:
        rig.play(rig.publish(**fields), film)
        return await rig.finish()


# ---- the form of renditions ----


async def test_renditions_have_three_sizes_and_the_times_and_key_frames_of_the_source() -> None:
    film = hd(4, gop=15)
    async with ladder() as rig:
        rig.play(rig.publish(), film)
        viewers = await rig.finish(EndReason.KICKED)
        report = rig.report
    assert {name: v.size() for name, v in viewers.items()} == RUNGS
    for viewer in viewers.values():
        assert viewer.shown == times(film)
        keys = [(u.dts, u.cts, u.wall) for u in film.of(Kind.VIDEO) if u.key]
        assert [(u.dts, u.cts, u.wall) for u in viewer.pictures if u.key] == keys
        assert viewer.epochs == [0]
        assert viewer.ended is EndReason.KICKED
        decodes(viewer)
    assert report["dropped"] == report["damaged"] == report["restarts"] == 0
    assert report["error"] is None
    assert rig.restarts.values == {}


async def test_pictures_and_sound_of_a_rendition_are_interleaved_and_ordered() -> None:
    for viewer in (await made_of(h264("640x360", 4, rate=15))).values():
        for units in (viewer.pictures, viewer.sounds):
            assert all(a.dts < b.dts for a, b in pairwise(units))
        behind = 0
        latest = 0
        for unit in viewer.units:
            latest = max(latest, unit.dts)
            behind = max(behind, latest - unit.dts)
        assert behind < 500


async def test_renditions_have_sound_of_48_khz_with_the_bitrates_of_the_ladder() -> None:
    film = source(
        *pictures("1280x720", "5"), "-f", "lavfi", "-i", "anoisesrc=amplitude=0.3:sample_rate=44100", "-t", "6",
        *X264, "-g", "10", *AAC,
    )  # fmt: skip
    viewers = await made_of(film)
    for name, bitrate in (("360p", 64_000), ("480p", 64_000), ("720p", 128_000)):
        sounds = viewers[name].sounds
        assert aac.parse_asc(sounds[0].track.config).rate == 48_000
        bits = 8 * sum(len(u.payload) for u in sounds)
        assert bits * 1000 / (sounds[-1].dts - sounds[0].dts) == pytest.approx(bitrate, rel=0.12)
        assert sounds[0].dts == pytest.approx(film.of(Kind.AUDIO)[0].dts, abs=25)
        assert sounds[-1].dts == pytest.approx(film.of(Kind.AUDIO)[-1].dts, abs=60)
    # Encoded once for both.
    assert [u.payload for u in viewers["360p"].sounds] == [u.payload for u in viewers["480p"].sounds]


@pytest.mark.nightly
async def test_the_bitrate_of_every_rendition_is_met_on_noise() -> None:
    film = source(*pictures("1280x720", "10", 14), "-t", "11", *X264, "-b:v", "4M", "-g", "20", "-bf", "0")
    async with ladder() as rig:
        rig.play(rig.publish(), film)
        await rig.until(lambda: len(rig.viewers) == 3 and all(len(v.pictures) > 105 for v in rig.viewers.values()), 90)
        viewers = await rig.finish()
    for name, bitrate in (("360p", 400_000), ("480p", 600_000), ("720p", 1_000_000)):
        bits = 8 * sum(len(u.payload) for u in viewers[name].pictures if u.dts < 10_000)
        assert bits / 10 == pytest.approx(bitrate, rel=0.1), name


async def test_sound_of_another_codec_becomes_aac() -> None:
    film = source(
        *pictures("640x360"), *tone(48000), "-t", "2", *X264, "-g", "30", "-c:a", "libopus", container="matroska"
    )
    assert film.tracks.audio is not None and film.tracks.audio.codec is Codec.OPUS
    (viewer,) = (await made_of(film)).values()
    assert {u.track.codec for u in viewer.sounds} == {Codec.AAC}
    assert viewer.sounds[-1].dts == pytest.approx(2000, abs=80)


async def test_a_source_without_sound_makes_a_ladder() -> None:
    film = h264("640x360", 2, audio=False)
    (viewer,) = (await made_of(film)).values()
    assert viewer.shown == times(film)
    assert viewer.tracks[0].audio is None
    assert viewer.sounds == []


async def test_a_source_without_video_makes_no_ladder_and_reports_the_reason() -> None:
    film = h264("640x360", 2)
    async with ladder() as rig:
        publisher = rig.publish()
        rig.play(publisher, film.only(Kind.AUDIO))
        await rig.until(lambda: rig.report["error"])
        assert "no video" in rig.report["error"]
        assert rig.viewers == {}
        rig.play(publisher, film.shifted(3000))
        (viewer,) = (await rig.finish()).values()
        assert viewer.shown == times(film.shifted(3000))
        assert rig.report["error"] is None


async def test_only_the_enabled_renditions_are_made() -> None:
    viewers = await made_of(hd(1), ld=False, hd=False)
    assert list(viewers) == ["480p"]


async def test_libx265_makes_renditions_too() -> None:
    film = h264("640x360", 2)
    (viewer,) = (await made_of(film, codec="libx265")).values()
    assert viewer.shown == times(film)
    assert viewer.keys == key_times(film)
    assert viewer.tracks[0].video is not None
    assert viewer.tracks[0].video.codec is Codec.H265
    assert codecs.codec_string(viewer.tracks[0].video).startswith("hvc1.1.")
    decodes(viewer)


async def test_script_data_reach_the_renditions_at_their_place() -> None:
    film = h264("640x360", 2)
    async with ladder() as rig:
        publisher = rig.publish()
        rig.announce(publisher, film.tracks)
        for unit in film.units:
            rig.push(publisher, [unit])
            if unit.track.kind is Kind.VIDEO and unit.dts + unit.cts == key_times(film)[1]:
                rig.say(publisher, TimedData(unit.dts, Script("onCuePoint", b"\x05")))
        (viewer,) = (await rig.finish()).values()
    (at,) = [n for n, item in enumerate(viewer.items) if isinstance(item, TimedData)]
    timed = viewer.items[at]
    assert isinstance(timed, TimedData) and timed.value == Script("onCuePoint", b"\x05")
    later = [i for i in viewer.items[at:] if i in viewer.pictures]
    assert later[0].dts == pytest.approx(timed.dts, abs=70)  # type: ignore[union-attr]


async def test_the_metadata_describe_the_rendition_and_keep_valid_fields() -> None:
    film = h264("640x360", 1)
    async with ladder() as rig:
        publisher = rig.publish()
        publisher.set_tracks(
            film.tracks.video, film.tracks.audio, {"width": 1.0, "encoder": "obs", "title": "talk", "videocodecid": 7.0}
        )
        rig.push(publisher, film.units)
        (viewer,) = (await rig.finish()).values()
    assert viewer.tracks[0].metadata == {
        "width": 640.0, "height": 360.0, "framerate": 30.0, "videodatarate": 400.0, "title": "talk",
    }  # fmt: skip


# ---- odd sources ----

ODD = {
    "10 bits": (*pictures("640x360"), "-t", "2", *X264, "-pix_fmt", "yuv420p10le", "-g", "30"),
    "4:4:4": (*pictures("640x360"), "-t", "2", *X264, "-pix_fmt", "yuv444p", "-g", "30"),
    "4:2:2, 10 bits": (*pictures("640x360"), "-t", "2", *X264, "-pix_fmt", "yuv422p10le", "-g", "30"),
    "full range": (*pictures("640x360"), "-t", "2", *X264, "-pix_fmt", "yuvj420p", "-g", "30"),
    "HEVC": (*pictures("640x360"), "-t", "2", "-c:v", "libx265", "-preset", "ultrafast",
             "-x265-params", "log-level=none:keyint=30:open-gop=0"),
    "AV1": (*pictures("640x360"), "-t", "2", "-c:v", "libsvtav1", "-preset", "12", "-g", "30"),
    "VFR": (*pictures("640x360", "30", more="select='not(between(n,20,25))*not(eq(mod(n,7),3))'"), "-t", "2",
            "-fps_mode", "vfr", *X264, "-g", "20"),
    "5 frames a second": (*pictures("640x360", "5"), "-t", "3", *X264, "-g", "10"),
    "open GOP": (*pictures("640x360"), "-t", "2", *X264, "-g", "20", "-bf", "3",
                 "-x264-params", "open-gop=1:b-adapt=0"),
}  # fmt: skip
FORMS = ("4:4:4", "4:2:2, 10 bits", "full range", "AV1")  # other tests convert each form and decode each codec


@pytest.mark.parametrize("name", [*(n for n in ODD if n not in FORMS), *at_night(*FORMS)])
async def test_unusual_sources_become_8_bit_pictures_with_the_same_times(name: str) -> None:
    film = source(*ODD[name])
    (viewer,) = (await made_of(film)).values()
    assert viewer.shown == times(film)
    assert viewer.keys == key_times(film)
    track = viewer.tracks[0].video
    assert track is not None
    decoder = VideoDecoder(track)
    (first, *_) = [p for u in viewer.pictures for p in decoder.decode(u)]
    assert (first.frame.format.name, first.frame.width, first.frame.height) == ("yuv420p", 640, 360)
    decodes(viewer)


async def test_interlaced_pictures_become_progressive() -> None:
    film = source(
        *pictures("720x576", "50", more="interlace"), "-t", "2",
        *X264, "-x264-params", "tff=1", "-g", "25", "-aspect", "16:9",
    )  # fmt: skip
    viewers = await made_of(film)
    assert {name: v.size() for name, v in viewers.items()} == {"360p": (640.0, 360.0), "480p": (854.0, 480.0)}
    for viewer in viewers.values():
        assert viewer.shown == times(film)
        assert viewer.keys == key_times(film)


@pytest.mark.parametrize(
    ("size", "aspect", "expected"),
    [("1440x1080", "16/9", (640.0, 360.0)), ("720x480", "4/3", (480.0, 360.0)), ("640x362", "1", None)],
)
async def test_pictures_with_non_square_samples_are_made_square(
    size: str, aspect: str, expected: tuple[float, float] | None
) -> None:
    film = source(*pictures(size, more=f"setdar={aspect}"), "-t", "1", *X264, "-g", "30", "-pix_fmt", "yuv420p")
    viewers = await made_of(film, sd=False, hd=False)
    width, height = viewers["360p"].size()
    if expected is not None:
        assert (width, height) == expected
    assert viewers["360p"].tracks[0].video is not None


@pytest.mark.parametrize("size", ["641x361", "18x16", *at_night("638x358", "180x320", "64x64")])
async def test_sources_of_odd_and_small_sizes_make_a_ladder(size: str) -> None:
    film = source(*pictures(size), "-t", "1", *X264, "-g", "30", "-pix_fmt", "yuv444p")
    viewers = await made_of(film)
    source_width, source_height = map(int, size.split("x"))
    for viewer in viewers.values():
        width, height = viewer.size()
        assert isinstance(width, float) and isinstance(height, float)
        assert width % 2 == height % 2 == 0
        assert width <= source_width + 1 and height <= source_height + 1
        assert viewer.shown == times(film)


async def test_pictures_that_become_faster_keep_their_bitrate() -> None:
    slow = source(*pictures("320x180", "5", 20), "-t", "4", *X264, "-g", "5", "-bf", "0", "-pix_fmt", "yuv420p")
    fast = source(*pictures("320x180", "30", 20), "-t", "12", *X264, "-g", "30", "-bf", "0", "-pix_fmt", "yuv420p")
    async with ladder() as rig:
        publisher = rig.publish()
        rig.play(publisher, slow)
        rig.push(publisher, [replace(u, track=slow.units[0].track) for u in fast.shifted(4000).units])
        (viewer,) = (await rig.finish()).values()
    assert viewer.shown == [*times(slow), *times(fast.shifted(4000))]
    late = [u for u in viewer.pictures if u.dts >= 8000]
    assert 8 * sum(len(u.payload) for u in late) / 8 == pytest.approx(100_000, rel=0.15)  # 320×180 of a box of 640×360


# ---- damage ----


def damaged(film: Source, numbers: Iterable[int]) -> Source:
    """Some pictures are noise."""
    worst = set(numbers)
    videos = iter(range(len(film.units)))
    units = []
    for unit in film.units:
        if unit.track.kind is Kind.VIDEO and next(videos) in worst:
            unit = replace(unit, payload=os.urandom(200))
        units.append(unit)
    return Source(film.tracks, tuple(units))


async def test_damaged_pictures_are_dropped_and_counted_without_other_effects() -> None:
    film = damaged(h264("640x360", 4, gop=30, bframes=0), range(35, 45))
    async with ladder() as rig:
        rig.play(rig.publish(), film)
        (viewer,) = (await rig.finish()).values()
        report = rig.report
    assert rig.restarts.values == {}
    assert report["damaged"] > 0
    assert {t for t in times(film) if t < 1150 or t >= 2000} <= set(viewer.shown)
    assert viewer.keys == key_times(film)


async def test_a_source_of_only_noise_makes_no_picture_and_kills_no_worker() -> None:
    film = damaged(h264("640x360", 2), range(100))
    async with ladder() as rig:
        rig.play(rig.publish(), film)
        viewers = await rig.finish()
        assert viewers == {}
        assert rig.restarts.values == {}
        assert rig.report["damaged"] > 0


async def test_an_invalid_configuration_is_reported_and_a_valid_one_recovers() -> None:
    film = h264("640x360", 2)
    assert film.tracks.video is not None
    broken = replace(film.tracks, video=replace(film.tracks.video, codec=Codec.AV1, config=b"\x81\x04\x0c\x00\xff\xff"))
    async with ladder() as rig:
        publisher = rig.publish()
        rig.announce(publisher, broken)
        assert broken.video is not None
        rig.push(publisher, [replace(u, track=broken.video) for u in film.of(Kind.VIDEO)])
        rig.play(publisher, film.shifted(5000))
        (viewer,) = (await rig.finish()).values()
    assert viewer.shown == times(film.shifted(5000))
    assert rig.restarts.values == {}


async def test_undecodable_sound_leaves_the_pictures() -> None:
    film = h264("640x360", 2)
    assert film.tracks.audio is not None
    broken = replace(film.tracks.audio, codec=Codec.OPUS, config=b"nonsense")
    units = tuple(replace(u, track=broken) if u.track.kind is Kind.AUDIO else u for u in film.units)
    async with ladder() as rig:
        rig.play(rig.publish(), Source(replace(film.tracks, audio=broken), units))
        (viewer,) = (await rig.finish()).values()
        assert "opus cannot be decoded" in rig.report["error"]
    assert viewer.shown == times(film)
    assert viewer.tracks[0].audio is None


async def test_a_randomly_damaged_source_kills_no_worker() -> None:
    """Damaged pictures are dropped; the worker survives every unit, and shows the next good key frame."""
    dice = random.Random(7)
    film = h264("160x90", 4, gop=10)
    async with ladder() as rig:
        publisher = rig.publish()
        for turn in range(6):
            part = film.shifted(turn * film.end)
            units = []
            for unit in part.units:
                body = bytearray(unit.payload)
                match dice.randrange(8):
                    case 0:
                        del body[dice.randrange(len(body)) :]
                    case 1:
                        body[dice.randrange(len(body))] ^= 1 << dice.randrange(8)
                    case 2:
                        body[: dice.randrange(len(body))] = dice.randbytes(dice.randrange(50))
                units.append(replace(unit, payload=bytes(body), dts=unit.dts + dice.choice((0, 0, 0, -200, 500))))
            rig.play(publisher, Source(part.tracks, tuple(units)))
        good = film.shifted(60_000)
        rig.play(publisher, good)
        (viewer,) = (await rig.finish()).values()
        report = rig.report
    assert rig.restarts.values == {}
    assert report["damaged"] > 10
    assert set(times(good)) <= set(viewer.shown)
    assert all(a.dts < b.dts for a, b in pairwise(viewer.pictures))


# ---- a source that changes ----


async def test_a_source_that_changes_its_size_gets_other_renditions() -> None:
    large, small = hd(2), h264("640x360", 2, rate=10)
    async with ladder() as rig:
        publisher = rig.publish()
        rig.play(publisher, large)
        rig.play(publisher, small.shifted(large.end))
        viewers = dict(await rig.finish())
    assert viewers["360p"].epochs == [0, 1]
    assert viewers["360p"].shown == [*times(large), *times(small.shifted(large.end))]
    assert viewers["720p"].shown == times(large)
    assert viewers["360p"].size() == (640.0, 360.0)
    assert viewers["720p"].ended is not None
    decodes(viewers["360p"])


async def test_a_change_of_size_without_a_new_sequence_header_is_followed() -> None:
    """Some encoders send new parameter sets in the stream, and no new sequence header."""
    large, small = h264("640x360", 2, audio=False), h264("480x360", 2, audio=False)
    assert large.tracks.video is not None and small.tracks.video is not None
    from gateway.media import h264 as syntax
    from gateway.media import nal

    sets = syntax.parse_avcc(small.tracks.video.config)
    head = nal.join([*sets.sps, *sets.pps])
    units = [
        replace(u, track=large.tracks.video, payload=head + u.payload if u.key else u.payload)
        for u in small.shifted(large.end).units
    ]
    async with ladder() as rig:
        publisher = rig.publish()
        rig.play(publisher, large)
        rig.push(publisher, units)
        (viewer,) = (await rig.finish()).values()
    assert viewer.size(0) == (640.0, 360.0)
    assert viewer.size() == (480.0, 360.0)
    assert viewer.shown == [*times(large), *times(small.shifted(large.end))]
    decodes(viewer)


async def test_a_source_that_loses_and_regains_its_sound_is_followed() -> None:
    film = h264("640x360", 2, rate=15)
    silent, again = film.only(Kind.VIDEO).shifted(film.end), film.shifted(2 * film.end)
    async with ladder() as rig:
        publisher = rig.publish()
        for part in (film, silent, again):
            rig.play(publisher, part)
        (viewer,) = (await rig.finish()).values()
    assert viewer.shown == [*times(film), *times(silent), *times(again)]
    assert [t.audio is None for t in viewer.tracks] == [False, True, False]
    assert not [u for u in viewer.sounds if film.end + 50 < u.dts < 2 * film.end - 50]
    assert [u for u in viewer.sounds if u.dts > 2 * film.end]


async def test_renditions_follow_a_jump_in_time() -> None:
    film = h264("640x360", 2, rate=15)
    later = film.shifted(3_600_000)
    async with ladder() as rig:
        publisher = rig.publish()
        rig.play(publisher, film)
        rig.push(publisher, later.units)
        (viewer,) = (await rig.finish()).values()
    assert viewer.shown == [*times(film), *times(later)]
    assert viewer.keys == [*key_times(film), *key_times(later)]
    assert viewer.sounds[-1].dts == pytest.approx(later.units[-1].dts, abs=80)


async def test_a_returning_publisher_continues_the_same_renditions() -> None:
    film = h264("640x360", 2, rate=15)
    async with ladder() as rig:
        publisher = rig.publish()
        rig.play(publisher, film)
        await rig.until(lambda: rig.viewers and len(rig.viewers["360p"].pictures) > 20)
        publisher.close()
        again = rig.publish()
        rig.play(again, film)
        (viewer,) = (await rig.finish()).values()
    assert viewer.epochs == [0, 1]
    assert len(viewer.pictures) == 2 * len(film.of(Kind.VIDEO))
    assert all(a.dts < b.dts for a, b in pairwise(viewer.pictures))
    assert viewer.shown[:30] == times(film)
    decodes(viewer)


async def test_renditions_can_be_switched_while_live() -> None:
    film = hd(2)
    async with ladder() as rig:
        publisher = rig.publish(hd=False)
        rig.play(publisher, film)
        await rig.until(lambda: len(rig.viewers) == 2)
        rig.hub.channel_changed(builders.channel(isCodec=True, ld=True, sd=False, hd=True))
        rig.push(publisher, film.shifted(film.end).units)
        await rig.until(lambda: "720p" in rig.viewers)
        viewers = dict(await rig.finish())
    assert viewers["360p"].epochs == [0], "a rung that stays is not disturbed"
    assert viewers["360p"].shown == [*times(film), *times(film.shifted(film.end))]
    assert viewers["480p"].ended is EndReason.OUTPUT_OFF
    assert viewers["720p"].shown[0] in key_times(film) + key_times(film.shifted(film.end))


async def test_switching_the_ladder_off_ends_its_renditions_and_worker() -> None:
    film = h264("640x360", 2)
    async with ladder() as rig:
        publisher = rig.publish()
        rig.play(publisher, film)
        await rig.until(lambda: rig.viewers and rig.viewers["360p"].pictures)
        assert worker_pids()
        assert publisher.stream.outputs is not None
        publisher.stream.outputs.switch("codec", False)
        await rig.until(lambda: rig.viewers["360p"].ended)
        assert rig.viewers["360p"].ended is EndReason.OUTPUT_OFF
        await rig.until(lambda: not worker_pids())
        assert rig.workers.running == 0
        assert rig.restarts.values == {}


# ---- workers that fail, and workers that are slow ----


async def killed(rig: LadderHub) -> None:
    (pid,) = worker_pids()
    os.kill(pid, signal.SIGKILL)
    await rig.until(lambda: worker_pids() not in ([], [pid]))


async def test_a_killed_worker_is_replaced_with_one_discontinuity_in_the_renditions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ladder_output, "_MIN_UPTIME_SECONDS", 1.0)
    film = hd(4, bframes=0)
    first = replace(film, units=tuple(unit for unit in film.units if unit.dts < 2000))
    async with ladder() as rig:
        publisher = rig.publish()
        rig.announce(publisher, film.tracks)
        await rig.play_live(publisher, first)  # so that this worker ran long enough to be replaced without a pause
        await rig.until(lambda: len(rig.viewers) == 3 and all(v.pictures for v in rig.viewers.values()))
        assert len(worker_pids()) == 1
        rest = film.shifted(2000)
        playing = asyncio.ensure_future(rig.play_live(publisher, rest))
        await asyncio.sleep(0.5)
        await killed(rig)
        await playing
        viewers = dict(await rig.finish())
        report = rig.report
    assert rig.restarts.values == {("ladder",): 1}
    assert report["restarts"] == 1
    for viewer in viewers.values():
        assert viewer.epochs == [0, 1]
        assert set(viewer.keys) <= {*key_times(first), *key_times(rest)}
        assert all(a.dts < b.dts for a, b in pairwise(viewer.pictures))
        gaps = [b - a for a, b in pairwise(viewer.shown) if b - a > 180]  # one lost picture
        assert len(gaps) <= 1 and max(gaps, default=0) < 2500
        assert viewer.shown[-1] == times(rest)[-1]
        decodes(viewer)
    resumed = {v.tracks[-1].epoch: v for v in viewers.values()}
    assert set(resumed) == {1}
    starts = {next(u for u in v.pictures if u.track is v.tracks[-1].video).dts for v in viewers.values()}
    assert len(starts) == 1, "all rungs go on at the same picture"


async def test_workers_that_die_repeatedly_are_replaced_after_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output_fault, "WORKED_SECONDS", 0.5)
    film = h264("640x360", 3, gop=15)
    async with ladder() as rig:
        publisher = rig.publish()
        rig.play(publisher, film)
        await rig.until(lambda: rig.viewers and rig.viewers["360p"].pictures)
        (pid,) = worker_pids()
        os.kill(pid, signal.SIGKILL)
        await rig.until(lambda: _state(publisher) == "retrying")
        assert "SIGKILL" in str(_entry(publisher)["error"])
        await rig.until(lambda: _state(publisher) == "running" and worker_pids())
        rig.push(publisher, film.shifted(film.end).units)
        viewer = (await rig.finish())["360p"]
    assert viewer.epochs == [0, 1]
    assert all(a.dts < b.dts for a, b in pairwise(viewer.pictures))
    decodes(viewer)


def _entry(publisher: builders.StreamPublisher) -> dict[str, object]:
    assert publisher.stream.outputs is not None
    return publisher.stream.outputs.status()[0]


def _state(publisher: builders.StreamPublisher) -> object:
    return _entry(publisher)["state"]


async def test_a_missing_free_worker_is_reported_and_retried() -> None:
    film = h264("640x360", 2)
    async with ladder(workers=1) as rig, rig.workers.start("tests.support.echo_worker", "other"):
        publisher = rig.publish()
        rig.play(publisher, film)
        await rig.until(lambda: _state(publisher) == "retrying")
        assert "all 1 media workers are busy" in str(_entry(publisher)["error"])


async def test_an_unknown_ladder_is_reported() -> None:
    async with ladder() as rig:
        publisher = rig.publish(ladder="gold")
        await rig.until(lambda: _state(publisher) == "retrying")
        assert _entry(publisher)["error"] == "there is no ladder gold; there are recommended, standard"


async def test_a_slow_worker_drops_whole_gops_and_counts_the_pictures() -> None:
    film = h264("854x480", 4, rate=15, gop=15, bframes=0)
    async with ladder(backlog=1) as rig:
        publisher = rig.publish()
        rig.announce(publisher, film.tracks)
        await rig.until(worker_pids)
        (pid,) = worker_pids()
        os.kill(pid, signal.SIGSTOP)
        for turn in range(5):
            rig.push(publisher, film.shifted(turn * film.end).units)
            await asyncio.sleep(0.05)
        os.kill(pid, signal.SIGCONT)
        rig.push(publisher, film.shifted(5 * film.end).units[:30])
        await rig.until(lambda: rig.report["dropped"])
        viewers = dict(await rig.finish())
        report = rig.report
    assert report["dropped"] > 50
    assert rig.dropped.values == {("output",): report["dropped"]}
    shown = {tuple(v.shown) for v in viewers.values()}
    assert len(shown) == 1, "every rung has the same pictures"
    lengths: dict[int, int] = {}
    for time in next(iter(shown)):
        lengths[time] = 1
    for viewer in viewers.values():
        decodes(viewer)
        for key, following in pairwise(viewer.keys):
            group = [t for t in viewer.shown if key <= t < following]
            assert len(group) >= 14, "no group begins and is then cut short"


async def test_a_worker_that_is_too_slow_again_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dropped_units, "_PAUSE_SECONDS", 0.7)  # drops are counted twice a second
    film = h264("854x480", 4, rate=15, gop=15, bframes=0)
    errors: list[object] = []
    async with ladder(backlog=1) as rig:
        publisher = rig.publish()
        rig.announce(publisher, film.tracks)
        await rig.until(worker_pids)
        (pid,) = worker_pids()
        for first in (0, 6):
            before = rig.report["dropped"]
            os.kill(pid, signal.SIGSTOP)
            for turn in range(first, first + 5):
                rig.push(publisher, film.shifted(turn * film.end).units)
            os.kill(pid, signal.SIGCONT)
            rig.push(publisher, film.shifted((first + 5) * film.end).units[:30])
            await rig.until(lambda before=before: rig.report["dropped"] > before)
            await asyncio.sleep(1.5)
            errors.append(rig.report["error"])
        await rig.finish()
    assert errors == [None, dropped_units.TOO_SLOW]


async def test_a_hanging_worker_is_killed_and_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ladder_output, "_HANG_SECONDS", 4.0)  # a busy machine starts a worker in less time
    monkeypatch.setattr(ladder_output, "_MIN_UPTIME_SECONDS", 0.0)
    film = source(*pictures("640x360", "30", 20), "-t", "3", *X264, "-b:v", "4M", "-g", "30", "-bf", "0")
    async with ladder() as rig:
        publisher = rig.publish(hd=False, sd=False)
        rig.announce(publisher, film.tracks)
        await rig.until(worker_pids)
        (pid,) = worker_pids()
        os.kill(pid, signal.SIGSTOP)
        rig.push(publisher, film.units)
        await rig.until(lambda: worker_pids() not in ([], [pid]))
        rig.push(publisher, film.shifted(film.end).units)
        viewer = (await rig.finish())["360p"]
    assert rig.restarts.values == {("ladder",): 1}
    assert set(times(film.shifted(film.end))) <= set(viewer.shown)


# ---- time ----


async def test_a_rendition_is_only_a_little_behind_its_source() -> None:
    """The bound is what the chain may hold, which is far above the usual delay."""
    film = h264("640x360", 7, gop=30, bframes=2)
    async with ladder() as rig:
        publisher = rig.publish()
        rig.announce(publisher, film.tracks)
        # What a worker needs for its start is no delay of the chain.
        rig.push(publisher, [unit for unit in film.units if unit.dts < 3000])
        await rig.until(lambda: any(viewer.units for viewer in rig.viewers.values()))
        await rig.play_live(publisher, replace(film, units=tuple(unit for unit in film.units if unit.dts >= 3000)))
        (viewer,) = (await rig.finish()).values()
    seen = {u.dts: at - u.wall for u, at in zip(viewer.units, viewer.came, strict=True) if u.track.kind is Kind.VIDEO}
    settled = sorted(delay for dts, delay in seen.items() if dts > 5000)
    assert len(settled) > 40
    assert settled[len(settled) // 2] < 3
    assert isinstance(viewer.tracks[0], Tracks)
