"""An output whose worker is too slow says so, if it happens again."""

from gateway.lib.metric_table import DROPPED
from gateway.lib.metrics import Counter
from gateway.outputs.dropped_units import TOO_SLOW, DroppedUnits


def test_two_losses_in_five_minutes_are_an_error() -> None:
    now, metric = 1000.0, Counter(DROPPED)
    units = DroppedUnits(metric, lambda: now)
    for step in (0.0, 0.5, 4.0, 4.0):  # one loss: up to the key frame of a long group of pictures
        now += step
        units.add(30)
    assert units.error is None
    now += 60.0
    units.add(80)
    assert units.error == TOO_SLOW
    now += 231.0
    assert units.error == TOO_SLOW
    now += 1.0
    assert units.error is None
    units.add(1)
    assert units.error == TOO_SLOW, "the last two"
    assert units.count == 201
    assert metric.values == {("output",): 201}


def test_a_loss_that_lasts_is_an_error() -> None:
    now = 1000.0
    units = DroppedUnits(Counter(DROPPED), lambda: now)
    for _ in range(31):
        units.add(30)
        now += 2.0
    assert units.error is None
    units.add(30)
    assert units.error == TOO_SLOW
