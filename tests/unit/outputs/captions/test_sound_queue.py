"""The queue of sound for a speech engine: its order, its window, its bound, and the end."""

from gateway.lib.metric_table import DROPPED
from gateway.lib.metrics import Counter
from gateway.live.sink import EndReason
from gateway.media.track import AccessUnit, Tracks
from gateway.outputs.captions.sound_queue import MAX_MS, SoundQueue
from tests.support import builders


def queue(seconds: float = 0, step: int = 20) -> SoundQueue:
    made = SoundQueue(Counter(DROPPED))
    made.on_tracks(Tracks(builders.VIDEO, builders.AUDIO))
    for at in range(0, round(seconds * 1000) + 1, step):
        made.on_unit(builders.sound(at))
    return made


def taken(made: SoundQueue) -> list[AccessUnit]:
    items = iter(made.take, None)
    return [item for item in items if isinstance(item, AccessUnit)]


def test_only_sound_is_queued_with_its_tracks() -> None:
    made = queue()
    made.on_unit(builders.picture(0, key=True))
    made.on_unit(builders.sound(20))
    first = made.take()
    assert isinstance(first, Tracks) and (first.video, first.audio) == (None, builders.AUDIO)
    assert [unit.dts for unit in taken(made)] == [0, 20]


def test_the_worker_gets_about_a_second_that_the_engine_has_not_taken() -> None:
    made = queue(3)
    assert (len(taken(made)), made.waiting_ms) == (50, 3_000)
    made.set_taken(10)
    assert (len(taken(made)), made.waiting_ms) == (10, 2_820)
    made.set_taken(10**9)
    assert made.waiting_ms == 3_000 - 59 * 20


def test_above_the_bound_the_older_half_is_skipped_and_counted() -> None:
    made = queue(30)
    assert MAX_MS / 2 <= made.waiting_ms <= MAX_MS
    assert made.skipped == made._dropped.values["output",] > 1_000
    assert isinstance(made.take(), Tracks)
    later = taken(made)
    assert later[0].dts >= 20_000 and [u.dts for u in later] == [later[0].dts + 20 * n for n in range(50)]


def test_sound_at_a_worker_that_hangs_counts_too() -> None:
    made = queue(1)
    taken(made)
    for at in range(1_020, 60_000, 20):
        made.on_unit(builders.sound(at))
    assert made.waiting_ms <= MAX_MS and len(made._items) <= MAX_MS // 20


def test_a_gap_of_the_source_is_not_lateness() -> None:
    made = queue(1)
    made.on_unit(builders.sound(500_000))
    made.on_unit(builders.sound(100))
    assert made.waiting_ms == 2_000


def test_the_end_wakes_the_reader() -> None:
    made = queue()
    made.changed.clear()
    made.on_end(EndReason.STOPPED)
    assert made.ended and made.changed.is_set()
