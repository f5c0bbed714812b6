"""Metrics: the table, bounded series, and the exposition format."""

import asyncio
import contextlib
import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.lib import metric_table
from gateway.lib.metric_table import TABLE, MetricKind, MetricSample
from gateway.lib.metrics import Counter, Histogram, Metrics


def exposed(measured: Metrics) -> dict[str, float]:
    """Every exposed sample by name and labels."""
    return {
        sample.name + "".join(f",{k}={v}" for k, v in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(measured.render().decode())
        for sample in family.samples
    }


def test_metric_names_follow_the_rules_of_prometheus():
    for name, metric in TABLE.items():
        assert re.fullmatch(r"millrace_[a-z_]+", name)
        assert (metric.kind is MetricKind.COUNTER) == name.endswith("_total")
        assert metric.help.endswith(".")
        assert bool(metric.buckets) == (metric.kind is MetricKind.HISTOGRAM)
        assert list(metric.buckets) == sorted(metric.buckets)


def test_every_metric_of_the_table_is_exposed():
    text = Metrics("1").render().decode()
    for name, metric in TABLE.items():
        assert f"# TYPE {name} {metric.kind}" in text
    assert "process_resident_memory_bytes" in text


def test_sources_are_read_at_each_scrape_and_equal_samples_are_summed():
    measured = Metrics("1")
    live = [1]
    measured.read_from(lambda: [MetricSample(metric_table.STREAMS, live[0], ("live",))])
    measured.read_from(lambda: [MetricSample(metric_table.STREAMS, 10, ("live",))])
    assert exposed(measured)["millrace_streams,state=live"] == 11
    live[0] = 2
    assert exposed(measured)["millrace_streams,state=live"] == 12


def test_a_failing_source_loses_only_its_own_samples():
    def broken() -> list[MetricSample]:
        raise RuntimeError("no")

    measured = Metrics("1")
    measured.read_from(broken)
    measured.read_from(lambda: [MetricSample(metric_table.VIEWERS, 4, ("flv",))])
    assert exposed(measured)["millrace_viewers,protocol=flv"] == 4


def test_a_counter_counts_by_labels():
    measured = Metrics("1")
    measured.refused.add("publish", "expired")
    measured.refused.add("publish", "expired", amount=2)
    assert exposed(measured)["millrace_auth_failures_total,reason=expired,what=publish"] == 3
    with pytest.raises(ValueError):
        measured.refused.add("publish")


def test_the_number_of_series_is_bounded():
    counter = Counter(metric_table.REFUSED)
    for n in range(5000):
        counter.add("publish", f"reason {n}")
    assert len(counter.values) <= Counter.MAX_SERIES + 1
    assert counter.values["other", "other"] == 5000 - Counter.MAX_SERIES
    histogram = Histogram(metric_table.SEGMENT_SECONDS)
    for n in range(5000):
        histogram.observe(1.0, f"format {n}")
    assert len(histogram.series) == Counter.MAX_SERIES


def test_histogram_buckets_are_cumulative():
    measured = Metrics("1")
    for seconds in (0.004, 0.02, 0.02, 99.0, float("nan")):
        measured.part_delay.observe(seconds)
    samples = exposed(measured)
    assert samples["millrace_ingest_to_part_seconds_bucket,le=0.005"] == 1
    assert samples["millrace_ingest_to_part_seconds_bucket,le=0.02"] == 3  # "le": less or equal
    assert samples["millrace_ingest_to_part_seconds_bucket,le=+Inf"] == 4
    assert samples["millrace_ingest_to_part_seconds_count"] == 4
    assert samples["millrace_ingest_to_part_seconds_sum"] == pytest.approx(99.044)


async def test_the_event_loop_lag_is_sampled():
    measured = Metrics("1")
    task = asyncio.ensure_future(measured.sample_loop_lag(every=0))
    while not measured.loop_lag.series:
        await asyncio.sleep(0)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert exposed(measured)["millrace_event_loop_lag_seconds_count"] >= 1


def test_label_values_are_escaped():
    measured = Metrics("1")
    measured.refused.add("publish", 'a"b\nc')
    assert exposed(measured)['millrace_auth_failures_total,reason=a"b\nc,what=publish'] == 1
