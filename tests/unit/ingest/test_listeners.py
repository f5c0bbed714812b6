"""The ingest protocols and the lists of ports that depend on the settings."""

from dataclasses import replace
from pathlib import Path

import pytest

from gateway import ingest
from gateway.channels.addresses import OpenPorts
from gateway.ingest.registry import all_listeners
from gateway.lib.sockets import ListenError
from gateway.processes.master import OpenSockets, edge_endpoints
from gateway.settings import Settings, load
from gateway.settings.models import LISTENERS, PortSharing


def made(**environ: str) -> Settings:
    return load(environ=environ)


def test_every_ingest_protocol_has_a_settings_section():
    names = [listener.name for listener in all_listeners()]
    assert names == ["rtmp", "srt", "ws", "rtsp", "webrtc"]
    assert set(names) <= set(LISTENERS)


def test_a_package_with_a_listener_descriptor_is_found_as_a_protocol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "units_of_a_test").mkdir()
    (tmp_path / "units_of_a_test" / "__init__.py").write_text(
        "from gateway.ingest.descriptor import ListenerDescriptor\n"
        "LISTENER = ListenerDescriptor(name='units', open=lambda services, outputs: None, order=1)\n"
    )
    monkeypatch.setattr(ingest, "__path__", [*ingest.__path__, str(tmp_path)])
    assert [listener.name for listener in all_listeners.__wrapped__()] == [
        "units",
        "rtmp",
        "srt",
        "ws",
        "rtsp",
        "webrtc",
    ]


def test_ports_are_named_like_the_settings_sections():
    assert OpenPorts(rtmp=1).opened() == {"rtmp": 1}
    assert OpenPorts(rtmp=1)["wss"] is None
    names = ["rtmp", "rtmps", "http", "https", "ws", "wss", "srt", "rtsp", "webrtc", "moq", "admin"]
    names += ["srtla", "rtsps"]
    assert list(OpenPorts()) == names
    with pytest.raises(TypeError, match="rist"):
        OpenPorts(rist=1)


def test_tls_ports_use_the_host_of_the_plain_ports():
    plain = made(MILLRACE_RTMP__HOST="127.0.0.7")
    assert [one.name for one in plain.listeners()] == ["rtmp", "http", "ws", "srt", "webrtc", "admin", "srtla"]
    secure = made(
        MILLRACE_RTMP__HOST="127.0.0.7", MILLRACE_TLS__CERT="/c", MILLRACE_TLS__KEY="/k", MILLRACE_RTSP__PORT="0"
    )
    found = {one.name: one for one in secure.listeners()}
    assert list(found) == [name for name in LISTENERS if name != "moq"]
    assert (found["rtmps"].host, found["rtmps"].port, found["rtmps"].tls) == ("127.0.0.7", 1938, True)
    assert secure.tls_ports() == {"rtmps": 1938, "https": 8443, "wss": 8444}


def test_an_edge_opens_no_ports_for_pushes_only():
    secure = made(MILLRACE_TLS__CERT="/c", MILLRACE_TLS__KEY="/k")
    assert [one.name for one in secure.listeners() if one.sharing is PortSharing.FIRST] == ["admin", "srtla"]
    assert [one.name for one in edge_endpoints(secure)] == ["rtmp", "rtmps", "http", "https", "srt", "webrtc", "admin"]


def test_the_port_of_moq_is_off_by_default_and_the_library_opens_it():
    (port,) = (one for one in made(MILLRACE_MOQ__PORT="4443").listeners() if one.name == "moq")
    assert (port.port, port.transports, port.sharing, port.is_for_edges) == (4443, ("udp",), PortSharing.LIBRARY, True)
    several = OpenSockets.open([port], 2)
    assert several.ports["moq"] == 4443
    assert several.of(1) == {"moq": ()} and several.of(2) == {}
    with pytest.raises(ListenError, match=r"moq.port must be a number"):
        OpenSockets.open([replace(port, port=0)], 2)


def test_the_port_of_agent_checks_is_listed_only_if_it_is_open():
    opened = made(MILLRACE_CLUSTER__AGENT_PORT="0", MILLRACE_HTTP__HOST="127.0.0.7")
    agent = opened.listeners()[-1]
    assert (agent.name, agent.host, agent.port, agent.sharing) == ("agent", "127.0.0.7", 0, PortSharing.FIRST)
    assert edge_endpoints(opened)[-1] == agent
    assert dict(OpenPorts(agent=5))["agent"] == 5
    assert "agent" not in OpenPorts(agent=None)
    assert "agent" not in OpenPorts(agent=5).as_json(), "other nodes may have an earlier version"


def test_the_ports_of_rtsp_are_closed_unless_one_is_set():
    tls = {"MILLRACE_TLS__CERT": "/c", "MILLRACE_TLS__KEY": "/k"}
    assert not {"rtsp", "rtsps"} & {one.name for one in made(**tls).listeners()}
    found = {one.name: one for one in made(MILLRACE_RTSP__PORT="8554", MILLRACE_RTSP__HOST="::1", **tls).listeners()}
    assert (found["rtsp"].port, found["rtsp"].is_for_edges) == (8554, True)
    assert (found["rtsps"].host, found["rtsps"].port, found["rtsps"].tls) == ("::1", 8322, True)
    assert "rtsps" not in [one.name for one in made(MILLRACE_RTSP__PORT="8554").listeners()]
    off = made(MILLRACE_RTSP__PORT="8554", MILLRACE_RTSP__TLS_PORT="-1", **tls).listeners()
    assert "rtsps" not in [one.name for one in off]


def test_the_port_of_srtla_can_be_closed_and_has_the_host_of_srt():
    srtla = made(MILLRACE_SRT__HOST="127.0.0.7").listeners()[-1]
    assert (srtla.name, srtla.host, srtla.port, srtla.transports) == ("srtla", "127.0.0.7", 5000, ("udp",))
    assert "srtla" not in [one.name for one in made(MILLRACE_SRT__SRTLA_PORT="-1").listeners()]
