"""The stored row of a live session has the names, types and formats of the original system."""

from __future__ import annotations

import pytest

from gateway.channels.addresses import OpenPorts
from gateway.channels.channel import Channel
from gateway.live.session_record import session_item

STARTED = 1_670_371_259.9  # 2022-12-07 00:00:59 UTC


def channel(**fields: object) -> Channel:
    key = "1670371200-5db080c8cdca8764de881bc04e61e2b1"
    return Channel({"id": "70ef9b07", "key": key, "videoname": "Foyer", **fields})


def test_a_session_row_has_exactly_the_attributes_of_the_original_system() -> None:
    assert session_item(channel(isFlv=True, isVideo=True), "10.0.3.7:8080", STARTED, ["arn:1", "arn:2"]) == {
        "URL": "rtmp://10.0.3.7:1935/stream/70ef9b07",
        "startTime": "2022-12-07 00:00",
        "Streamkey": "1670371200-5db080c8cdca8764de881bc04e61e2b1",
        "Name": "Foyer",
        "isFlv": True,
        "isHls": False,
        "isCMAF": False,
        "isImage": False,
        "isOnDemand": False,
        "isVideo": True,
        "isCluster": False,
        "ServerAddress": "10.0.3.7",
        "taskARN": ["arn:1", "arn:2"],
    }


@pytest.mark.parametrize("yes", [True, "true", "TRUE"])
def test_flags_are_stored_as_booleans(yes: object) -> None:
    item = session_item(channel(isHls=yes, isCluster=yes, isImage="false"), "a.lan:80", STARTED)
    assert (item["isHls"], item["isCluster"], item["isImage"]) == (True, True, False)


def test_the_url_of_an_rtmps_channel_has_the_rtmps_scheme() -> None:
    item = session_item(channel(isRtmps="true"), "gateway.lan:8080", STARTED)
    assert item["URL"] == "rtmps://gateway.lan:1938/stream/70ef9b07"


def test_the_url_contains_the_open_port() -> None:
    ports = OpenPorts(rtmp=51935, rtmps=51938)
    assert session_item(channel(), "a.lan:80", STARTED, (), ports)["URL"] == "rtmp://a.lan:51935/stream/70ef9b07"
    item = session_item(channel(isRtmps=True), "a.lan:80", STARTED, (), ports)
    assert item["URL"] == "rtmps://a.lan:51938/stream/70ef9b07"
    item = session_item(channel(isRtmps=True), "a.lan:80", STARTED, (), OpenPorts(rtmp=51935))
    assert item["URL"] == "rtmp://a.lan:51935/stream/70ef9b07"


def test_an_ipv6_address_has_brackets_only_in_the_url() -> None:
    item = session_item(channel(), "[fd00::7]:8080", STARTED)
    assert (item["URL"], item["ServerAddress"]) == ("rtmp://[fd00::7]:1935/stream/70ef9b07", "fd00::7")


@pytest.mark.parametrize("zone", ["Asia/Shanghai", "America/New_York"])
def test_the_start_time_is_utc_in_any_time_zone(monkeypatch: pytest.MonkeyPatch, zone: str) -> None:
    import time

    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert session_item(channel(), "a.lan:80", STARTED)["startTime"] == "2022-12-07 00:00"
    finally:
        monkeypatch.undo()
        time.tzset()
