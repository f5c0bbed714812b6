"""A playlist of films in the object store: their frames unchanged, in order, by the clock."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import time
from itertools import pairwise
from pathlib import Path

import pytest

from gateway.adapters.local.objects import LocalObjects
from gateway.channels.inputs import InputKind, InputSpec
from gateway.inputs.playlist.playlist_source import PlaylistSource
from gateway.media.track import AccessUnit, Kind
from gateway.ports.errors import OutputError
from tests.support import films, sources
from tests.support.at_night import at_night
from tests.support.inputs import FakeInput, growing, kill_demuxers, running_source, worker_pool
from tests.support.time_outs import at_most

RED = ("-f", "lavfi", "-i", "color=red:size=320x180:rate=25")
X264 = ("-c:v", "libx264", "-preset", "ultrafast", "-g", "25", "-bf", "2", "-pix_fmt", "yuv420p")


def film(name: str, seconds: float, *more: str, sound: bool = True, size: str = "320x180") -> Path:
    tone = ("-f", "lavfi", "-i", "sine=440:sample_rate=44100") if sound else ()
    picture = ("-f", "lavfi", "-i", f"testsrc2=size={size}:rate=25")
    return films.film(name, *picture, *tone, "-t", str(seconds), *X264, *(("-c:a", "aac") if sound else ()), *more)


class Store:
    """A local store with playlists that play from it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.objects = LocalObjects(root)

    def put(self, path: Path, key: str) -> str:
        target = self.root / key
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
        return key

    def put_converted(self, path: Path, folder: str) -> str:
        """Puts a film in the form of VOD, in segments of a second. Example of a `folder`: `talks/a/`."""
        target = self.root / folder
        target.mkdir(parents=True)
        name = target.name
        films.film(
            f"{path.stem}.m3u8", "-i", str(path), "-c", "copy", "-f", "hls", "-hls_time", "1", "-hls_list_size", "0",
            "-hls_segment_filename", str(target / f"{name}stream_%05d.ts"), "-y", str(target / f"{name}stream.m3u8"),
        )  # fmt: skip
        return folder

    def playlist(self, *items: str, loop: bool = False, always: bool = False) -> PlaylistSource:
        spec = InputSpec("p", InputKind.PLAYLIST, items=items, loop=loop, always=always)
        return PlaylistSource(worker_pool(), self.objects, spec)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


async def test_two_films_play_unchanged_in_order_and_equal_tracks_are_announced_once(store: Store) -> None:
    path = film("one.mp4", 1)
    source, context = store.playlist(store.put(path, "a.mp4"), store.put(path, "b.mp4")), FakeInput()
    context.take_air()
    async with running_source(source, context) as task:
        await task
    original, played = sources.read(path), context.recorder
    for kind in Kind:
        assert [u.payload for u in played.of(kind)] == [u.payload for u in original.of(kind)] * 2
        assert all(0 < step < 100 for step in growing(played.of(kind))), list(growing(played.of(kind)))
    assert len(played.tracks) == 1


def shown_at(unit: AccessUnit) -> int:
    """The presentation time of a unit, in milliseconds."""
    return round((unit.dts + unit.cts) * 1000 / unit.track.timescale)


@pytest.mark.parametrize("container", [*at_night("avi", "asf"), "h264", "mpg"])
async def test_pictures_are_shown_in_their_order_although_the_container_has_no_times_for_it(
    store: Store, container: str
) -> None:
    path = film("reordered.mp4", 2, "-bf", "3", "-x264-params", "b-pyramid=normal:ref=4:b-adapt=0", sound=False)
    how = ("-bsf:v", "h264_mp4toannexb") if container == "mpg" else ()
    source = store.playlist(store.put(films.copied(f"reordered.{container}", path, *how), f"a.{container}"))
    context = FakeInput()
    context.take_air()
    async with running_source(source, context) as task:
        await task
    expected, shown = (sorted(read.of(Kind.VIDEO), key=shown_at) for read in (sources.read(path), context.recorder))
    assert [u.payload[-100:] for u in shown] == [u.payload[-100:] for u in expected]
    assert {b - a for a, b in pairwise(map(shown_at, shown))} == {40}
    assert all(step > 0 for step in growing(context.recorder.of(Kind.VIDEO)))


async def test_a_film_with_its_parameter_sets_only_in_the_header_is_played(store: Store) -> None:
    """The header of ASF and NUT has them with start codes, and the encoder repeats none in the pictures."""
    source, context = store.playlist(store.put(film("header.asf", 1, sound=False), "a.asf")), FakeInput()
    context.take_air()
    async with running_source(source, context) as task:
        await task
    assert len(context.recorder.of(Kind.VIDEO)) == 25


async def test_a_film_that_begins_with_another_track_plays_to_its_end(store: Store) -> None:
    """Cameras write a track of texts or of sensors first."""
    words = store.root / "words.srt"
    words.write_text("1\n00:00:00,100 --> 00:00:00,900\nfirst\n")
    path = film("one.mp4", 1)
    how = ("-map", "0", "-map", "1:v", "-map", "1:a", "-c:v", "copy", "-c:a", "copy")
    made = films.film("texts-first.mkv", "-i", str(words), "-i", str(path), *how)
    source, context = store.playlist(store.put(made, "a.mkv"), store.put(path, "b.mp4")), FakeInput()
    context.take_air()
    async with running_source(source, context) as task:
        await task
    assert not source.problem
    expected = [u.payload for u in sources.read(path).of(Kind.VIDEO)]
    assert [u.payload for u in context.recorder.of(Kind.VIDEO)] == expected * 2


async def test_no_picture_is_lost_at_the_end_of_a_film_whose_sound_is_its_first_track(store: Store) -> None:
    path = film("reordered-sound.mp4", 1, "-bf", "3")
    made = films.copied("sound-first.avi", path, "-map", "0:a", "-map", "0:v")
    source, context = store.playlist(store.put(made, "a.avi")), FakeInput()
    context.take_air()
    async with running_source(source, context) as task:
        await task
    assert len(context.recorder.of(Kind.VIDEO)) == 25


async def test_pictures_that_an_edit_list_hides_pass_in_an_instant(store: Store) -> None:
    """A film that was cut without encoding begins at a key frame before the cut."""
    cut = films.film("cut.mp4", "-ss", "0.8", "-i", str(film("two.mp4", 2)), "-c", "copy")
    source, context = store.playlist(store.put(cut, "a.mp4")), FakeInput()
    context.take_air()
    async with running_source(source, context) as task:
        await task
    times = sorted(map(shown_at, context.recorder.of(Kind.VIDEO)))
    assert len(times) == 50
    assert times[20] - times[0] <= 110 and {b - a for a, b in pairwise(times[20:])} == {40}
    sound = shown_at(context.recorder.of(Kind.AUDIO)[0])
    assert 0 <= times[20] - sound <= 110, "sound begins at the cut, with what its decoder needs"


async def test_pictures_that_an_edit_list_hides_at_the_end_are_not_shown(store: Store) -> None:
    """Phones shorten a film by its edit list (ISO/IEC 14496-12 §8.6.6) and keep all samples."""
    whole = film("two.mp4", 2)
    data = bytearray(whole.read_bytes())
    at = -1
    while (at := data.find(b"elst", at + 1)) >= 0:
        shown_for = int.from_bytes(data[at + 12 : at + 16], "big")
        data[at + 12 : at + 16] = (shown_for // 4).to_bytes(4, "big")
    (store.root / "a.mp4").write_bytes(data)
    source, context = store.playlist("a.mp4"), FakeInput()
    context.take_air()
    async with running_source(source, context) as task:
        await task
    shown = sorted(map(shown_at, context.recorder.of(Kind.VIDEO)))
    assert 480 <= shown[-1] - shown[0] <= 600, shown  # the reordered ones that end the film may come after its end
    expected = sources.read(whole).of(Kind.VIDEO)
    assert [u.payload for u in context.recorder.of(Kind.VIDEO)] == [u.payload for u in expected][: len(shown)]


async def test_a_playlist_plays_at_the_speed_of_the_clock(store: Store) -> None:
    source, context = store.playlist(store.put(film("two.mp4", 2), "a.mp4")), FakeInput()
    context.take_air()
    async with running_source(source, context) as task:
        await task
    pictures = [(u, at) for u, at in zip(context.recorder.units, context.recorder.at, strict=True)]
    (first, began), (last, ended) = pictures[0], pictures[-1]
    assert ended - began >= (last.dts - first.dts) / last.track.timescale - 0.02


async def test_a_playlist_publishes_nothing_before_it_is_on_air(
    store: Store,
) -> None:
    source, context = store.playlist(store.put(film("one.mp4", 1), "a.mp4"), loop=True), FakeInput()
    async with running_source(source, context), asyncio.timeout(at_most(30)):
        while not (source.is_ready and source.key_frame):
            await asyncio.sleep(0.02)
        assert context.peers == []
        first = sources.read(store.root / "a.mp4").of(Kind.VIDEO)[0]
        assert source.key_frame is not None and source.key_frame.payload == first.payload
        context.take_air()
        began = time.monotonic()
        await context.recorder.until(lambda: context.recorder.of(Kind.VIDEO))
        assert context.recorder.of(Kind.VIDEO)[0].key
        assert time.monotonic() - began < at_most(0.7)


async def test_a_playlist_stops_off_air_and_resumes_at_the_last_key_frame(store: Store) -> None:
    path = film("two.mp4", 2)
    source, context = store.playlist(store.put(path, "a.mp4")), FakeInput()
    context.take_air()
    async with running_source(source, context) as task:
        await context.recorder.until(lambda: len(context.recorder.of(Kind.VIDEO)) >= 30)
        context.leave_air()
        await asyncio.sleep(0.3)
        before = len(context.recorder.of(Kind.VIDEO))
        await asyncio.sleep(0.3)
        assert len(context.recorder.of(Kind.VIDEO)) == before < 40
        at_pause = source.key_frame
        context.take_air()
        await task
    original = [u.payload for u in sources.read(path).of(Kind.VIDEO)]
    played = context.recorder.of(Kind.VIDEO)
    assert played[before].key
    assert at_pause is not None and at_pause.payload == played[before].payload
    assert [u.payload for u in played] == original[:before] + original[25:]
    assert all(step > 0 for step in growing(played))


async def test_a_playlist_with_always_continues_off_air(store: Store) -> None:
    source, context = store.playlist(store.put(film("one.mp4", 1), "a.mp4"), loop=True, always=True), FakeInput()
    async with running_source(source, context):
        await context.recorder.until(lambda: len(context.recorder.of(Kind.VIDEO)) >= 30)  # more than the film has


async def test_a_converted_film_is_played_from_its_segments(store: Store) -> None:
    folder = store.put_converted(film("segments.mp4", 1.2), "talks/a/")
    for item in (folder, "talks/a.mp4", "talks/a/astream.m3u8"):
        source, context = store.playlist(item), FakeInput()
        context.take_air()
        async with running_source(source, context) as task:
            await task
        assert len(context.recorder.of(Kind.VIDEO)) == 30


async def test_a_film_with_other_tracks_announces_them(store: Store) -> None:
    large, mute = film("large.mp4", 0.5, size="640x360"), film("mute.mp4", 0.5, sound=False)
    keys = [store.put(film("half.mp4", 0.5), "a.mp4"), store.put(large, "b.mp4"), store.put(mute, "c.mp4")]
    source, context = store.playlist(*keys), FakeInput()
    context.take_air()
    async with running_source(source, context) as task:
        await task
    tracks = context.recorder.tracks
    assert [t.audio is not None for t in tracks] == [True, True, False]
    assert len({t.video for t in tracks}) == 3 - (tracks[0].video == tracks[2].video)
    assert all(step > 0 for step in growing(context.recorder.of(Kind.VIDEO)))


async def test_a_film_whose_tracks_change_announces_them(store: Store) -> None:
    """A recorder of FLV writes new sequence headers when its publisher returns with other settings."""
    small, large = film("small.flv", 0.5), film("large.flv", 0.5, "-ar", "22050", size="640x360")
    later = films.copied("later.flv", large, "-output_ts_offset", "0.5")
    tags = later.read_bytes()[13:]  # after the header
    (store.root / "a.flv").write_bytes(small.read_bytes() + tags)
    source, context = store.playlist("a.flv"), FakeInput()
    context.take_air()
    async with running_source(source, context) as task:
        await task
    wanted = [sources.read(path) for path in (small, large)]
    for kind in Kind:
        played = [(u.track.config, u.payload) for u in context.recorder.of(kind)]
        assert played == [(u.track.config, u.payload) for read in wanted for u in read.of(kind)], kind


async def test_a_film_deleted_while_on_air_is_named_and_the_next_one_plays(store: Store) -> None:
    # Noise: so large that it is not read whole before it is deleted.
    noisy = films.film(
        "noise.mp4", "-f", "lavfi", "-i", "testsrc2=size=640x360:rate=25,noise=alls=90:allf=t", "-t", "6", *X264, "-qp",
        "18",
    )  # fmt: skip
    assert noisy.stat().st_size > 12_000_000
    following = film("half.mp4", 0.5)
    source = store.playlist(store.put(noisy, "a.mp4"), store.put(following, "b.mp4"))
    context = FakeInput()
    context.take_air()
    async with running_source(source, context) as task:
        await context.recorder.until(lambda: len(context.recorder.units) > 5)
        (store.root / "a.mp4").unlink()
        await task
    expected = [u.payload for u in sources.read(following).of(Kind.VIDEO)]
    assert [u.payload for u in context.recorder.of(Kind.VIDEO)][-len(expected) :] == expected
    assert source.problem == "a.mp4: it does not exist"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "it does not exist"),
        (b"", "the file is empty"),
        (b"this is text, no film\n" * 50, "it is not readable media"),
    ],
)
async def test_a_list_without_a_usable_film_fails_with_a_reason(
    store: Store, content: bytes | None, words: str
) -> None:
    if content is not None:
        (store.root / "x.mp4").write_bytes(content)
    source, context = store.playlist("x.mp4", "x.mp4", loop=True), FakeInput()
    context.take_air()
    with pytest.raises(OutputError, match=rf"no item can be played; x\.mp4: {words}"):
        async with running_source(source, context) as task:
            await task


async def test_a_film_that_would_be_shown_without_its_rotation_is_named(store: Store, tmp_path: Path) -> None:
    turned = tmp_path / "turned.mp4"
    how = ("-c", "copy", "-metadata:s:v", "rotate=90")
    subprocess.run(
        ["ffmpeg", "-v", "error", "-y", "-i", film("two.mp4", 2), *how, turned], check=True, timeout=at_most(30)
    )
    source, context = store.playlist(store.put(turned, "a.mp4"), store.put(film("half.mp4", 0.5), "b.mp4")), FakeInput()
    context.take_air()
    async with running_source(source, context) as task:
        await context.recorder.until(lambda: len(context.recorder.units) > 5)
        assert source.problem == "a.mp4: its pictures are shown without their rotation by 90°; convert it as VoD"
        await task
    assert source.problem.startswith("a.mp4: its pictures")


async def test_sound_of_a_film_that_cannot_be_used_is_left_out_while_the_film_plays(store: Store) -> None:
    made = film("two.mp4", 2)
    (store.root / "a.mp4").write_bytes(made.read_bytes().replace(b"mp4a", b"xxxx").replace(b"esds", b"free"))
    source, context = store.playlist("a.mp4", store.put(made, "b.mp4")), FakeInput()
    context.take_air()

    def left_out() -> str:
        stream = context.hub.find("c1")
        return (
            stream.publisher.on_air.unusable.left_out_text
            if stream is not None and stream.publisher is not None
            else ""
        )

    async with running_source(source, context) as task:
        await context.recorder.until(lambda: len(context.recorder.of(Kind.VIDEO)) > 5)
        assert left_out() == "The encoder sends sound of an unknown codec: choose AAC."
        await context.recorder.until(lambda: len(context.recorder.of(Kind.AUDIO)) > 5)
        assert left_out() == ""
        await task


async def test_a_film_whose_pictures_cannot_be_read_is_named_although_its_sound_can(store: Store) -> None:
    """A purchased film, whose samples are encrypted."""
    import av

    path = film("five.mp4", 5)
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as opened:
        for packet in opened.demux(video=0):
            if packet.size:
                assert packet.pos is not None
                data[packet.pos : packet.pos + 4] = b"\xff" * 4  # the length of its first NAL unit
    (store.root / "a.mp4").write_bytes(data)
    source, context = store.playlist("a.mp4", store.put(film("one.mp4", 1), "b.mp4")), FakeInput()
    context.take_air()
    async with running_source(source, context) as task:
        await task
    assert source.problem.startswith("a.mp4: it is damaged: ")
    assert len(context.recorder.of(Kind.VIDEO)) == 25


async def test_a_film_without_a_picture_that_can_be_shown_is_named_although_its_sound_plays(store: Store) -> None:
    data = film("header-sound.asf", 1).read_bytes()
    assert b"\0\0\0\1\x67" in data
    (store.root / "a.asf").write_bytes(data.replace(b"\0\0\0\1\x67", b"\0\0\0\1\x6c"))  # a sequence parameter set
    source, context = store.playlist("a.asf"), FakeInput()
    context.take_air()
    async with running_source(source, context) as task:
        await task
    assert source.problem == "a.asf: none of its pictures can be shown"


async def test_sound_with_channels_in_an_order_of_its_own_is_played(store: Store) -> None:
    path = films.own_order(film("surround.mov", 1, "-ac", "6", "-c:a", "pcm_s16le"))
    source, context = store.playlist(store.put(path, "a.mov")), FakeInput()
    context.take_air()
    async with running_source(source, context) as task:
        await task
    assert abs(len(context.recorder.of(Kind.AUDIO)) * 1024 / 48_000 - 1) < 0.1


async def test_a_second_sound_track_of_an_unknown_codec_is_no_problem(store: Store) -> None:
    """Phones record a second track with spatial sound."""
    made = films.film("spatial.mkv", "-i", str(film("one.mp4", 1)), "-map", "0:v", "-map", "0:a", "-map", "0:a",
                      "-c", "copy", "-c:a:1", "ac3")  # fmt: skip
    (store.root / "a.mkv").write_bytes(made.read_bytes().replace(b"A_AC3", b"A_XYZ"))
    source, context = store.playlist("a.mkv"), FakeInput()
    context.take_air()
    async with running_source(source, context) as task:
        await context.recorder.until(lambda: len(context.recorder.of(Kind.AUDIO)) > 5)
        assert not source.problem
        await task


async def test_after_the_death_of_the_worker_the_next_item_plays(store: Store) -> None:
    keys = [store.put(film("two.mp4", 2), "a.mp4"), store.put(film("half.mp4", 0.5), "b.mp4")]
    source, context = store.playlist(*keys, loop=True), FakeInput()
    context.take_air()
    pool = source._workers
    with pytest.raises(OutputError, match=r"the media worker"):
        async with running_source(source, context) as task:
            await context.recorder.until(lambda: context.recorder.units)
            assert pool.running == 1
            kill_demuxers(os.getpid())
            await task
    assert pool.running == 0
