"""Reports of viewers are aggregated by channel and protocol, in bounded memory."""

import pytest

from gateway.diagnosis import experience as module
from gateway.diagnosis.cmcd import Cmcd
from gateway.diagnosis.experience import PAGES, Distribution, Experience, Totals, summary
from gateway.lib.metrics import Metrics
from tests.support.clock import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock(1000.0)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics("1")


@pytest.fixture
def reports(metrics: Metrics, clock: Clock) -> Experience:
    return Experience(metrics, clock)


def test_repeated_totals_of_a_player_are_counted_once(reports: Experience, metrics: Metrics):
    for stalls, ms in ((0, 0), (2, 1500), (2, 1500), (3, 2000)):
        reports.add("c1", "flv", Cmcd(1, startup=800, latency=900, stalls=stalls, stalled_ms=ms, height=720))
    totals = reports.of("c1")["flv"]
    assert (totals.players, totals.stalls, totals.stall_seconds) == (1, 3, 2.0)
    assert sum(totals.startup.counts) == 1
    assert sum(totals.latency.counts) == 4
    assert metrics.viewer_stalls.values == {("flv",): 3}
    assert metrics.viewer_stall_seconds.values == {("flv",): 2.0}
    assert totals.as_json()["height"] == {"p50": 720, "p95": 720}


def test_the_startup_time_lasts_until_the_buffer_is_filled(reports: Experience, clock: Clock):
    reports.add("c1", "hls", Cmcd(1, starting=True))
    clock.now += 1.2
    reports.add("c1", "hls", Cmcd(1, starting=True))
    clock.now += 0.4
    reports.add("c1", "hls", Cmcd(1))
    clock.now += 9
    reports.add("c1", "hls", Cmcd(1, starting=True))  # after a seek
    reports.add("c1", "hls", Cmcd(1))
    startup = reports.of("c1")["hls"].startup
    assert sum(startup.counts) == 1
    assert 1.5 <= (startup.quantile(0.5) or 0) <= 2.0


def test_a_player_first_seen_during_playback_has_no_startup_time(reports: Experience):
    reports.add("c1", "hls", Cmcd(1, bitrate=2000))
    assert not any(reports.of("c1")["hls"].startup.counts)


def test_simultaneous_stalls_of_sound_and_picture_count_once(reports: Experience, clock: Clock):
    reports.add("c1", "hls", Cmcd(1, starved=True))
    clock.now += 0.1
    reports.add("c1", "hls", Cmcd(1, starved=True))
    clock.now += 5
    reports.add("c1", "hls", Cmcd(1, starved=True))
    assert reports.of("c1")["hls"].stalls == 2


def test_the_same_session_id_on_two_channels_is_two_viewers(reports: Experience):
    reports.add("c1", "flv", Cmcd(1, startup=1))
    reports.add("c2", "flv", Cmcd(1, startup=1))
    assert [reports.of(c)["flv"].players for c in ("c1", "c2")] == [1, 1]


def test_the_delay_of_the_latest_report_is_known_for_a_minute(reports: Experience, clock: Clock):
    assert reports.behind("c1") is None
    for delay in (700, 400):
        reports.add("c1", "wsflv", Cmcd(1, latency=delay))
    reports.add("c1", "wsflv", Cmcd(1))
    assert reports.behind("c1") == 0.4
    assert reports.behind("c2") is None
    clock.now += 71
    assert reports.behind("c1") is None


def test_impossible_reported_values_are_limited(reports: Experience):
    reports.add(
        "c1", "flv", Cmcd(1, startup=999_999_999, latency=999_999_999, stalls=999_999_999, stalled_ms=999_999_999)
    )
    reports.add("c1", "flv", Cmcd(1, stalls=0, stalled_ms=0))
    totals = reports.of("c1")["flv"]
    assert (totals.stalls, totals.stall_seconds) == (60, 60)
    assert totals.as_json()["startup"] == {"p50": 60, "p95": 60}


def test_stall_time_is_limited_by_the_lifetime_of_a_player(reports: Experience, clock: Clock, metrics: Metrics):
    for _ in range(100):
        clock.now += 0.5
        reports.add("c1", "hls", Cmcd(1, starved=True, stall_ms=3_600_000))
    totals = reports.of("c1")["hls"]
    assert (totals.stalls, totals.stall_seconds) == (34, 60 + 99 * 0.5)
    assert metrics.viewer_stall_seconds.values == {("hls",): 60 + 99 * 0.5}


def test_many_players_on_one_channel_do_not_displace_those_of_another(
    reports: Experience, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "MAX_PLAYERS", 10)
    for n in range(4):
        reports.add("calm", "flv", Cmcd(n))
    for n in range(50):
        reports.add("flooded", "flv", Cmcd(n))
    for n in range(4):
        reports.add("calm", "flv", Cmcd(n))
    assert reports.of("calm")["flv"].players == 4
    assert reports.players == 10


def test_the_number_of_channels_and_players_is_bounded(metrics: Metrics, clock: Clock, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "MAX_TOTALS", 3)
    monkeypatch.setattr(module, "MAX_PLAYERS", 2)
    reports = Experience(metrics, clock)
    for n in range(5):
        reports.add(f"c{n}", "flv", Cmcd(n, startup=1))
    assert len(reports) == 3
    assert reports.of("c0") == {}
    assert reports.players == 2
    assert len(reports._unsent) == 3


def test_reports_expire_after_one_to_two_windows(reports: Experience, clock: Clock):
    reports.add("c1", "flv", Cmcd(1, startup=100))
    clock.now += module.WINDOW_SECONDS
    reports.add("c1", "flv", Cmcd(2, startup=100))
    assert reports.of("c1")["flv"].players == 2
    clock.now += module.WINDOW_SECONDS
    assert reports.of("c1")["flv"].players == 1
    clock.now += 2 * module.WINDOW_SECONDS
    assert reports.of("c1") == {}


def test_totals_of_a_remote_channel_are_taken_once_and_merged_there(
    reports: Experience, metrics: Metrics, clock: Clock
):
    reports.add("c1", "flv", Cmcd(1, startup=800, stalls=2))
    reports.add("mine", "flv", Cmcd(2, startup=800))
    taken = reports.take(lambda channel: channel == "mine")
    assert list(taken) == ["c1"]
    assert reports.take(lambda channel: False) == {}
    holder = Experience(Metrics("1"), clock)
    holder.merge("c1", {name: Totals.decode(totals.encode()) for name, totals in taken["c1"].items()})
    assert holder.of("c1")["flv"].as_json() == reports.of("c1")["flv"].as_json()
    reports.put_back("c1", taken["c1"])
    assert reports.take(lambda channel: False)["c1"]["flv"].players == 1
    assert reports.of("c1")["flv"].players == 1, "what is sent again is not counted again here"


@pytest.mark.parametrize(
    "text", ["", "1_2_3", "1_2_3____x", "1_2_3_99-1___", "-1_2_3____", "1_2_3_1-1-1___", "1_2_3_1-99999999___"]
)
def test_malformed_totals_are_refused(text: str):
    with pytest.raises(ValueError):
        Totals.decode(text)


def test_encoded_maximum_totals_fit_into_a_query():
    totals = Totals()
    totals.players = totals.stalls = 999_999_999
    for distribution in totals.distributions():
        for n in range(len(distribution.counts)):
            distribution.counts[n] = 9_999_999
    assert len(totals.encode()) * len(module.PROTOCOLS) < 7000
    assert Totals.decode(totals.encode()).encode() == totals.encode()


def test_totals_above_the_maximum_are_capped_when_encoded():
    totals = Totals()
    totals.players, totals.stalls, totals.stall_seconds = 2 * 10**9, 2 * 10**9, 10**7
    totals.startup.counts[0] = 20_000_000
    sent = Totals.decode(totals.encode())
    assert (sent.players, sent.stalls, sent.stall_seconds) == (999_999_999, 999_999_999, 999_999.999)
    assert sent.startup.counts[0] == 9_999_999


def test_merging_large_totals_does_not_overflow(reports: Experience):
    full = Totals.decode("_".join(["9" * 9] * 3 + [f"0-{'9' * 7}"] * 4))
    totals = Totals()
    for _ in range(600):
        totals.merge(full)
    reports.merge("c1", {"flv": totals})
    assert reports.of("c1")["flv"].startup.counts[0] == 600 * 9_999_999 > 2**32
    assert summary(reports.of("c1"))["all"]["startup"] == {"p50": 0.05, "p95": 0.095}


def test_quantiles_are_interpolated_within_their_bucket():
    values = Distribution((1, 2, 4))
    assert values.quantile(0.5) is None
    for value in (0.5, 1.5, 1.5, 3):
        values.add(value)
    assert values.quantile(0.25) == 1
    assert values.quantile(0.5) == 1.5
    assert values.quantile(1) == 4
    values.add(9)
    assert values.quantile(1) == 4


def test_the_summary_has_all_protocols_and_their_sum(reports: Experience):
    reports.add("c1", "flv", Cmcd(1, startup=100))
    reports.add("c1", "dash", Cmcd(2, startup=3000, bitrate=2500))
    said = summary(reports.of("c1"))
    assert said["all"]["viewers"] == 2
    assert set(said["protocols"]) == {"flv", "dash"}
    assert said["all"]["startup"]["p50"] < said["all"]["startup"]["p95"]
    assert said["protocols"]["dash"]["bitrate"]["p50"] == pytest.approx(2_250_000, rel=0.2)
    assert summary({})["all"]["startup"] == {"p50": None, "p95": None}


def test_pages_of_new_players_are_counted_once_and_come_back_from_text():
    experience = Experience(Metrics("1"))
    experience.begin_show("c1")
    for session, page in ((1, "watch"), (1, "watch"), (2, "embed"), (3, "invented"), (4, "")):
        experience.add("c1", "hls", Cmcd(session, page=page))
    totals = experience.of_show("c1")["hls"]
    assert totals.players == 4
    counts = [1, 1, *[0] * (len(PAGES) - 3), 1]
    assert list(totals.pages.counts) == counts
    assert list(Totals.decode(totals.encode()).pages.counts) == counts
    assert list(Totals.decode("1_0_0____").pages.counts) == [0] * len(PAGES)
