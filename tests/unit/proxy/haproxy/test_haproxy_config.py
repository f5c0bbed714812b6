"""proxy/haproxy fits the gateway's ports, time-outs and health checks, and its README documents every variable."""

import re
from pathlib import Path

import pytest

from gateway.lib.readiness import TIMEOUT_SECONDS
from gateway.settings import load

FOLDER = Path(__file__).parents[4] / "proxy" / "haproxy"
CONFIG = (FOLDER / "haproxy.cfg").read_text()
SETTINGS = load(environ={})
VARIABLE = re.compile(r"FRONT_[A-Z_]+")
SECTION = re.compile(r"(global|defaults|resolvers|frontend|backend)\b")


def sections() -> dict[str, list[str]]:
    """The lines of each section without comments, by the first two words of the section."""
    found: dict[str, list[str]] = {}
    name = ""
    for line in CONFIG.splitlines():
        if SECTION.match(line):
            name = " ".join(line.split()[:2])
            found[name] = []
        elif line.strip() and not line.strip().startswith("#"):
            found[name].append(line.strip())
    return found


def seconds(section: str, timeout: str) -> int:
    lines = sections()[section]
    words = next(line for line in lines if line.startswith(f"timeout {timeout} ")).split()
    number, unit = re.fullmatch(r"(\d+)([sm])", words[2]).groups()  # type: ignore[union-attr]
    return int(number) * {"s": 1, "m": 60}[unit]


def presets() -> dict[str, str]:
    return dict(line.split(None, 2)[1:] for line in sections()["global"] if line.startswith("presetenv "))


def test_every_variable_is_used_and_documented():
    used = set(VARIABLE.findall(CONFIG))
    assert used == set(VARIABLE.findall((FOLDER / "README.md").read_text()))
    body = "\n".join(
        line for line in CONFIG.splitlines() if "presetenv" not in line and not line.strip().startswith("#")
    )
    assert used - {"FRONT_PLAYERS"} <= set(VARIABLE.findall(body))


@pytest.mark.parametrize("name", ["rtmp", "http", "ws"])
def test_plain_ports_equal_those_of_the_gateway(name: str):
    port = getattr(SETTINGS, name).port
    assert presets()[f"FRONT_TO_{name.upper()}"] == str(port)
    assert presets()[f"FRONT_{name.upper()}"] == f":{port}"


@pytest.mark.parametrize("name", ["rtmps", "https", "wss"])
def test_tls_ports_equal_those_of_the_gateway(name: str):
    assert presets()[f"FRONT_{name.upper()}"] == f":{getattr(SETTINGS, name).port}"


def test_metrics_are_available_only_locally():
    assert presets()["FRONT_METRICS"].startswith("127.0.0.1:")


def test_timeouts_are_longer_than_allowed_silence_of_connections():
    longest = max(SETTINGS.stream.wait_for_publisher, SETTINGS.stream.linger, SETTINGS.rtmp.idle_timeout)
    for side in ("client", "server"):
        assert seconds("defaults base", side) > longest
    assert seconds("defaults base", "tunnel") > longest
    pings = max(SETTINGS.rtmp.ping_interval, SETTINGS.ws.ping_interval)
    for section in ("defaults tcp", "backend push-ready", "backend push-alive"):
        assert seconds(section, "tunnel") > 2 * pings


def test_haproxy_closes_idle_connections_before_the_gateway_does():
    assert seconds("defaults web", "http-keep-alive") <= SETTINGS.http.keep_alive


def test_the_health_check_waits_longer_than_a_store_timeout():
    assert seconds("defaults base", "check") > TIMEOUT_SECONDS


@pytest.mark.parametrize("kind", ["rtmp", "push", "whip", "playback"])
def test_alive_gateways_get_connections_only_if_none_is_ready(kind: str):
    found = sections()
    if kind == "whip":
        assert "use_backend whip-alive if whip ! { nbsrv(whip-ready) gt 0 }" in found["frontend playback"]
    else:
        assert f"use_backend {kind}-alive unless {{ nbsrv({kind}-ready) gt 0 }}" in found[f"frontend {kind}"]
    ready, alive = found[f"backend {kind}-ready"], found[f"backend {kind}-alive"]
    assert "option httpchk GET /ready" in ready and "http-check expect status 200 error-status L7OKC" in ready
    assert "option httpchk GET /healthcheck" in alive
    agent = [".if defined(FRONT_AGENT)", next(line for line in ready if "agent-check" in line), ".endif"]
    assert agent == ready[-4:-1]
    assert ("retry-on conn-failure empty-response 503" in ready) == (kind == "playback")
    checks = ("option httpchk", "http-check", "retry-on", ".if", "default-server", ".endif")
    assert [line for line in ready if not line.startswith(checks)] == [
        line for line in alive if not line.startswith(checks)
    ]


def test_the_configuration_does_not_expose_the_admin_listener():
    assert not re.search(rf"\b{SETTINGS.admin.port}\b", CONFIG)
