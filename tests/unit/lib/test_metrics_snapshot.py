"""Metrics of several processes: their sum, the Prometheus text, and the encoding between processes."""

import json

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.lib import metric_table
from gateway.lib.metric_table import MetricSample
from gateway.lib.metrics import Metrics
from gateway.lib.metrics_snapshot import MetricsSnapshot


def worker(name: str, *, viewers: int, sent: int, version: str = "1") -> MetricsSnapshot:
    """Metrics of a worker with this many viewers and bytes sent."""
    measured = Metrics(version)
    measured.read_from(
        lambda: [
            MetricSample(metric_table.VIEWERS, viewers, ("flv",)),
            MetricSample(metric_table.BYTES_OUT, sent, ("flv",)),
        ]
    )
    measured.part_seconds.observe(0.5)
    measured.refused.add("publish", "expired", amount=sent)
    return measured.snapshot(name)


def exposed(measured: MetricsSnapshot) -> dict[str, float]:
    return {
        sample.name + "".join(f",{k}={v}" for k, v in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(measured.render().decode())
        for sample in family.samples
    }


def test_gauges_counters_and_histograms_of_processes_are_summed():
    total = worker("1", viewers=3, sent=100)
    total.add(worker("2", viewers=4, sent=50))
    seen = exposed(total)
    assert seen["millrace_viewers,protocol=flv"] == 7
    assert seen["millrace_sent_bytes_total,protocol=flv"] == 150
    assert seen["millrace_auth_failures_total,reason=expired,what=publish"] == 150
    assert seen["millrace_part_duration_seconds_bucket,le=0.5"] == 2
    assert seen["millrace_part_duration_seconds_sum"] == 1.0


def test_build_information_is_not_summed():
    total = worker("1", viewers=0, sent=0)
    total.add(worker("2", viewers=0, sent=0))
    assert exposed(total)["millrace_build_info,version=1"] == 1


def test_process_metrics_have_a_label_for_each_process():
    total = worker("1", viewers=0, sent=0)
    total.add(worker("2-3", viewers=0, sent=0))
    seen = exposed(total)
    for name in ("process_resident_memory_bytes", "process_cpu_seconds_total", "process_open_fds"):
        assert seen[f"{name},process=1"] > 0
        assert seen[f"{name},process=2-3"] > 0
        assert name not in seen


def test_only_cumulative_metrics_of_an_ended_process_are_kept():
    total = worker("1", viewers=3, sent=100)
    total.add(worker("2", viewers=4, sent=50).cumulative_metrics())
    seen = exposed(total)
    assert seen["millrace_viewers,protocol=flv"] == 3
    assert seen["millrace_sent_bytes_total,protocol=flv"] == 150
    assert seen["millrace_part_duration_seconds_count"] == 2
    assert "process_open_fds,process=2" not in seen


def test_a_snapshot_survives_an_encoding_round_trip():
    measured = worker("1", viewers=3, sent=100)
    assert MetricsSnapshot.decode(measured.encode()) == measured


def test_unknown_metrics_of_another_version_are_ignored():
    measured = worker("1", viewers=3, sent=100)
    told = json.loads(measured.encode())
    told["values"]["millrace_hats_total"] = [[1.0]]
    told["processes"]["1"]["process_hats"] = 1
    told["hats"] = 1
    assert MetricsSnapshot.decode(json.dumps(told).encode()) == measured


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"{}",
        b'{"values":{},"rows":{},"processes":[]}',
        b'{"values":{"millrace_viewers":[["flv","x",1]]},"rows":{},"processes":{}}',
        b'{"values":{"millrace_viewers":[["flv",null]]},"rows":{},"processes":{}}',
        b'{"values":{"millrace_viewers":[["flv",NaN]]},"rows":{},"processes":{}}',
        b'{"values":{"millrace_viewers":7},"rows":{},"processes":{}}',
        b'{"values":{"millrace_viewers":[["flv",-1e300]]},"rows":{},"processes":{}}',
        b'{"values":{"millrace_pulls_total":[[-1]]},"rows":{},"processes":{}}',
        b'{"values":{},"rows":{"millrace_segment_duration_seconds":[[[-1]]]},"processes":{}}',
        b'{"values":{},"rows":{"millrace_part_duration_seconds":[[[1,2]]]},"processes":{}}',
        b'{"values":{},"rows":{},"processes":{"1":{"process_open_fds":true}}}',
        b"[" * 100_000,
    ],
)
def test_invalid_snapshots_are_refused(text: bytes):
    with pytest.raises(ValueError):
        MetricsSnapshot.decode(text)
