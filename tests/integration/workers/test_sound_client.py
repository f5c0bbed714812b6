"""The sound of a push: its announced configuration, the death of its worker, and the waiting queue."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from gateway.lib.metric_table import WORKER_RESTARTS
from gateway.lib.metrics import Counter
from gateway.media import aac
from gateway.media.track import AccessUnit, Codec, Kind, MediaTrack
from gateway.settings.layers import load
from gateway.workers import sound_client
from gateway.workers.programs.audio_codec import AudioEncoder
from gateway.workers.sound_client import SoundWorkerClient, SoundWorkerFailed
from gateway.workers.sound_protocol import BITRATES, CONFIGS, aac_track
from gateway.workers.worker_pool import WorkerPool
from tests.support.pushing import camera
from tests.support.sources import pictures, source, tone
from tests.support.time_outs import at_most
from tests.support.waiting import until

FLAC = ("-c:a", "flac", "-ac", "2")
MP3 = ("-c:a", "libmp3lame", "-ac", "1")


def workers(most: int = 2) -> WorkerPool:
    settings = load(environ={}, overrides=[f"workers.most={most}"])
    return WorkerPool(settings.workers, Counter(WORKER_RESTARTS))


async def spoken(units: list[AccessUnit], channels: int = 2, *, at_once: bool = True) -> list[AccessUnit]:
    """Returns the AAC units of these units."""
    heard: list[AccessUnit] = []
    made = SoundWorkerClient(workers(), "c1", heard.append)
    running = asyncio.create_task(made.run())
    await made.open(units[0].track, aac_track(channels, 1000))
    for unit in units:
        made.give(unit, at_once=at_once)
    made.finish()
    async with asyncio.timeout(at_most(20)):
        await running
    return heard


@pytest.mark.parametrize("channels", [1, 2])
def test_the_announced_configuration_matches_the_encoder(channels: int) -> None:
    made = aac.parse_asc(AudioEncoder(BITRATES[channels], channels, 1000).track.config)
    told = aac.parse_asc(CONFIGS[channels])
    assert (told.object_type, told.rate, told.channels, told.core_samples) == (
        made.object_type,
        made.rate,
        made.channels,
        made.core_samples,
    )


@pytest.mark.parametrize(("coder", "channels"), [(FLAC, 2), (MP3, 1)], ids=["FLAC", "MP3"])
async def test_sound_of_any_codec_becomes_aac(coder: tuple[str, ...], channels: int) -> None:
    film = source(*pictures(), *tone(44100), "-t", "1", "-c:v", "libx264", *coder, container="matroska")
    heard = await spoken(film.of(Kind.AUDIO), channels)
    assert len(heard) == pytest.approx(47, abs=3)
    assert {u.track for u in heard} == {aac_track(channels, 1000)}


async def test_batched_sound_gives_the_same_result() -> None:
    units = camera(seconds=1).of(Kind.AUDIO)[:44]  # the last batch has fewer than the others
    one_by_one, batched = await spoken(units), await spoken(units, at_once=False)
    assert [(u.dts, u.payload) for u in batched] == [(u.dts, u.payload) for u in one_by_one]
    assert len(batched) > 30


async def test_sound_without_listeners_is_sent_in_small_batches() -> None:
    units = camera(seconds=1).of(Kind.AUDIO)
    heard = asyncio.Event()
    made = SoundWorkerClient(workers(), "c1", lambda unit: heard.set())
    running = asyncio.create_task(made.run())
    await made.open(units[0].track, aac_track(2, 1000))
    async with asyncio.timeout(at_most(20)):
        for unit in units[:5]:  # of 1,024 samples: enough for two units of the encoder
            made.give(unit, at_once=False)
        await heard.wait()
        while made._queue:
            await asyncio.sleep(0)
        heard.clear()
        for unit in units[5:7]:
            made.give(unit, at_once=False)
        assert len(made._queue) == 2
        made.give(units[7])
        await heard.wait()
        made.finish()
        await running


async def test_damaged_sound_is_dropped_and_counted() -> None:
    units = camera(seconds=1).of(Kind.AUDIO)
    units = [*units[:10], AccessUnit(units[0].track, 200, 0, True, 0.0, b"\xff" * 300), *units[11:]]
    assert len(await spoken(units)) > 30


async def test_an_undecodable_track_fails_permanently() -> None:
    made = SoundWorkerClient(workers(), "c1", lambda unit: None)
    running = asyncio.create_task(made.run())
    # No decoder supports this object type. A configuration that is too short would be read with the bytes behind it.
    await made.open(MediaTrack(Kind.AUDIO, Codec.AAC, 1000, b"\xff" * 8), aac_track(2, 1000))
    with pytest.raises(SoundWorkerFailed) as failed:
        async with asyncio.timeout(at_most(20)):
            await running
    assert not failed.value.again


async def test_a_worker_that_dies_repeatedly_makes_the_client_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sound_client, "_MODULE", "tests.support.there_is_no_such_module")
    own = workers()
    made = SoundWorkerClient(own, "c1", lambda unit: None)
    running = asyncio.create_task(made.run())
    with contextlib.suppress(SoundWorkerFailed):
        await made.open(MediaTrack(Kind.AUDIO, Codec.AAC, 1000, b"\x12\x10"), aac_track(2, 1000))
    with pytest.raises(SoundWorkerFailed, match="cannot be encoded") as failed:
        async with asyncio.timeout(at_most(20)):
            await running
    assert failed.value.again
    assert own.running == 0


async def test_the_oldest_sound_is_dropped_from_a_full_queue() -> None:
    made = SoundWorkerClient(workers(), "c1", lambda unit: None)
    track = MediaTrack(Kind.AUDIO, Codec.AAC, 1000, b"\x12\x10")
    for n in range(5_000):
        made.give(AccessUnit(track, n * 20, 0, True, 0.0, b"x"))
    assert len(made._queue) <= 1_000
    assert made.dropped == 5_000 - len(made._queue)
    newest = made._queue[-1]
    assert isinstance(newest, AccessUnit) and newest.dts == 4_999 * 20
    assert made.behind > 90


async def test_a_new_worker_gets_no_sound_of_the_source_before() -> None:
    units = camera(seconds=1).of(Kind.AUDIO)
    heard: list[AccessUnit] = []
    made = SoundWorkerClient(workers(), "c1", heard.append)
    for unit in units[:5]:
        made.give(unit)  # as if a worker had died before it took them
    running = asyncio.create_task(made.run())
    await made.open(units[0].track, aac_track(2, 1000))
    for unit in units[5:]:
        made.give(unit)
    made.finish()
    async with asyncio.timeout(at_most(20)):
        await running
    assert (made.started, made.dropped) == (1, 5)
    assert len(heard) > 30


async def test_a_client_without_sound_finishes_at_once() -> None:
    made = SoundWorkerClient(workers(), "c1", lambda unit: None)
    made.finish()
    async with asyncio.timeout(at_most(5)):
        await made.run()
    assert made.behind == 0


class Speaker:
    """A stream whose sound is converted. goes_on: it speaks until 18 s of it wait."""

    def __init__(self, pool: WorkerPool, name: str) -> None:
        self.heard: list[AccessUnit] = []
        self.goes_on = False
        self.client = SoundWorkerClient(pool, name, self._hear)
        self.running = asyncio.create_task(self.client.run())
        self.client.change(SOUND[0].track, aac_track(2, 1000))
        self._next = 0

    def speak(self, units: int = 10) -> None:
        for _ in range(units):
            self._next += 1
            dts = SOUND[0].dts + self._next * 21
            self.client.give(AccessUnit(SOUND[0].track, dts, 0, True, 0.0, SOUND[self._next % len(SOUND)].payload))

    def _hear(self, unit: AccessUnit) -> None:
        self.heard.append(unit)
        while self.goes_on and self.client.behind < 18:
            self.speak(1)

    async def is_heard(self) -> None:
        """Waits for more sound."""
        before = len(self.heard)
        self.speak()
        await until(lambda: len(self.heard) > before, "sound")

    async def end(self) -> None:
        self.client.finish()
        async with asyncio.timeout(at_most(20)):
            await self.running


SOUND = camera(seconds=1).of(Kind.AUDIO)


async def test_streams_share_a_process_up_to_its_places() -> None:
    pool = workers(most=2)
    speakers = [Speaker(pool, f"c{n}") for n in range(17)]
    await asyncio.gather(*(speaker.is_heard() for speaker in speakers))
    assert pool.running == 2 and {speaker.client.started for speaker in speakers} == {1}
    await asyncio.gather(*(speaker.end() for speaker in speakers))
    assert pool.running == 0 and not pool._shared


async def test_a_backlog_does_not_delay_the_other_streams() -> None:
    """The backlog never becomes shorter, so the other stream is not heard if it waits for its end."""
    pool = workers(most=1)
    busy, other = Speaker(pool, "busy"), Speaker(pool, "other")
    await asyncio.gather(busy.is_heard(), other.is_heard())
    busy.goes_on = True
    await asyncio.gather(busy.is_heard(), other.is_heard())
    assert busy.client.behind > 15, "its backlog still waits"
    busy.goes_on = False
    await asyncio.gather(busy.end(), other.end())
    assert len(busy.heard) > len(other.heard), "it is served meanwhile, too"


async def test_streams_of_a_dead_process_go_on_in_smaller_groups() -> None:
    pool = workers(most=8)
    speakers = [Speaker(pool, f"c{n}") for n in range(6)]
    await asyncio.gather(*(speaker.is_heard() for speaker in speakers))
    for groups in (2, 6, 6):
        for shared in pool._shared:
            shared.child.kill()
        started = [speaker.client.started for speaker in speakers]
        await until(lambda: [s.client.started for s in speakers] == [n + 1 for n in started], "new workers")  # noqa: B023
        await asyncio.gather(*(speaker.is_heard() for speaker in speakers))
        assert len(pool._shared) == pool.running == groups
        for speaker in speakers:
            speaker.client._early_deaths = 0  # as if the workers had lived longer
    await asyncio.gather(*(speaker.end() for speaker in speakers))
    assert pool.running == 0


async def test_only_the_stream_whose_sound_ends_workers_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sound_client, "_MODULE", "tests.support.crashing_sound_worker")
    pool = workers(most=8)
    speakers = [Speaker(pool, f"c{n}") for n in range(3)]
    guilty = Speaker(pool, "guilty")
    await asyncio.gather(*(speaker.is_heard() for speaker in [*speakers, guilty]))
    started = 0
    while not guilty.running.done():
        if guilty.client.started > started:
            started = guilty.client.started
            guilty.client.give(AccessUnit(SOUND[0].track, 0, 0, True, 0.0, b"crash"))
        await asyncio.sleep(0.005)
    with pytest.raises(SoundWorkerFailed, match="cannot be encoded"):
        await guilty.running
    assert started == 3
    await asyncio.gather(*(speaker.is_heard() for speaker in speakers))
    assert {speaker.client.started for speaker in speakers} == {3}, "its last worker was its own"
    await asyncio.gather(*(speaker.end() for speaker in speakers))


async def test_a_full_pool_lets_a_stream_use_a_process_for_others() -> None:
    pool = workers(most=1)
    first = Speaker(pool, "c1")
    await first.is_heard()
    alone = Speaker(pool, "c2")
    alone.client._died = 2
    await alone.is_heard()
    assert pool.running == 1
    await asyncio.gather(first.end(), alone.end())
