"""Deployment files: containers, dashboards and alerts match the program."""

import fnmatch
import ipaddress
import json
import re
import shlex
import shutil
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from yamllint import linter
from yamllint.config import YamlLintConfig

from gateway.lib.metric_table import TABLE, MetricKind
from gateway.settings import load
from gateway.settings.layers import ALIASES, OPTIONS, variable
from tests.support.time_outs import at_most

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "deploy"
YAML = sorted([*DEPLOY.rglob("*.yaml"), *DEPLOY.rglob("*.yml")])
RULES = YamlLintConfig("extends: default\nrules: {document-start: disable, line-length: {max: 120}}")
METRIC = re.compile(r"\b(millrace_[a-z_]+|process_[a-z_]+)\b")
PROCESS = {"process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds", "process_max_fds"}


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


@pytest.mark.parametrize("path", YAML, ids=lambda p: str(p.relative_to(DEPLOY)))
def test_yaml_files_pass_the_linter(path: Path):
    assert [str(problem) for problem in linter.run(path.read_text(), RULES)] == []


# ---- metrics ----


def exposed() -> set[str]:
    """The name of every exposed series."""
    names = set(PROCESS)
    for name, metric in TABLE.items():
        names |= (
            {f"{name}_{part}" for part in ("bucket", "sum", "count")} if metric.kind is MetricKind.HISTOGRAM else {name}
        )
    return names


def expressions() -> Iterator[tuple[str, str]]:
    dashboard = json.loads((DEPLOY / "grafana" / "millrace.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]
    for variable_ in dashboard["templating"]["list"]:
        yield variable_["name"], variable_["query"]["query"]
    for group in read(DEPLOY / "prometheus" / "alerts.yml")["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]


@pytest.mark.parametrize(("where", "expression"), list(expressions()), ids=lambda v: v[:40])
def test_dashboards_and_alerts_use_existing_metrics(where: str, expression: str):
    names = set(METRIC.findall(expression))
    assert names <= exposed(), where
    assert names or expression.startswith("up{")
    assert expression.count("(") == expression.count(")") and expression.count("{") == expression.count("}")


@pytest.mark.parametrize(("where", "expression"), list(expressions()), ids=lambda v: v[:40])
def test_dashboards_and_alerts_use_existing_labels(where: str, expression: str):
    known = {"instance", "job", "le"} | {label for metric in TABLE.values() for label in metric.labels}
    used = set(re.findall(r'([a-z_]+)\s*(?:=~|!=|!~|=)\s*"', expression))
    for group in re.findall(r"by \(([^)]*)\)", expression):
        used |= {label.strip() for label in group.split(",")}
    assert used <= known, where


def test_the_dashboard_shows_every_metric_except_those_per_stream():
    shown = {name for _, expression in expressions() for name in METRIC.findall(expression)}
    shown = {re.sub(r"_(bucket|sum|count)$", "", name) for name in shown}
    assert set(TABLE) - shown == {"millrace_stream_bitrate_bps", "millrace_stream_viewers"}


def test_dashboard_panels_do_not_overlap_and_have_unique_ids():
    panels = json.loads((DEPLOY / "grafana" / "millrace.json").read_text())["panels"]
    cells: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        own = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not own & cells, panel["title"]
        assert at["x"] + at["w"] <= 24
        cells |= own
    assert len({panel["id"] for panel in panels}) == len(panels)


def test_every_alert_has_severity_summary_and_description():
    for group in read(DEPLOY / "prometheus" / "alerts.yml")["groups"]:
        for rule in group["rules"]:
            assert rule["labels"]["severity"] in ("critical", "warning", "info")
            assert rule["annotations"]["summary"] and rule["annotations"]["description"].endswith(".")


# ---- compose ----


def test_the_guide_has_the_checks_for_every_alert():
    alerts = [
        rule["alert"] for group in read(DEPLOY / "prometheus" / "alerts.yml")["groups"] for rule in group["rules"]
    ]
    checks = re.findall(r"^\| (Millrace\w+) \|", (ROOT / "docs" / "operations.md").read_text(), re.M)
    assert sorted(checks) == sorted(alerts)


def test_compose_uses_existing_options_and_mounts_existing_files():
    compose = read(DEPLOY / "compose.yaml")
    options = {variable(name) for name in OPTIONS}
    for service in ("millrace", "aws"):
        for name in compose["services"][service]["environment"]:
            known = name == "MILLRACE_PROFILE" or name.removesuffix("_FILE") in options or name in ALIASES
            assert known or (service == "aws" and (name == "HOME" or name.startswith("AWS_"))), name
    for service in compose["services"].values():
        for mount in service.get("volumes", []):
            source = mount.split(":")[0]
            if source == "${HOME}/.aws":
                assert mount.endswith(":ro")
                continue
            assert (DEPLOY / source).exists() if source.startswith(".") else source in compose["volumes"]
        assert set(service.get("secrets", ())) <= set(compose["secrets"])


def test_compose_allows_time_to_drain_and_publishes_the_api_locally():
    millrace = read(DEPLOY / "compose.yaml")["services"]["millrace"]
    settings = load(profile="container", environ={})
    assert int(millrace["stop_grace_period"].removesuffix("s")) > settings.serve.drain
    published = {int(p.split(":")[-1].removesuffix("/udp")): p for p in millrace["ports"]}
    assert set(published) == {
        settings.rtmp.port,
        settings.http.port,
        settings.ws.port,
        settings.admin.port,
        settings.webrtc.port,
        settings.srt.port,
        settings.srt.srtla_port,
    }
    assert published[settings.admin.port].startswith("127.0.0.1:")


def test_compose_has_a_profile_for_local_work_with_aws():
    services = read(DEPLOY / "compose.yaml")["services"]
    assert {name for name, s in services.items() if "profiles" not in s} == {"millrace", "prometheus", "grafana"}
    aws, settings = services["aws"], load(profile="container", environ={})
    assert aws["ports"] == [f"127.0.0.1:80:{settings.admin.port}"]
    assert {"ECS_ROLE", "KVS_STREAM_ARN", "COUNT_FREQUENCY", "AWS_PROFILE", "AWS_SESSION_TOKEN"} <= aws[
        "environment"
    ].keys()
    assert f"{aws['environment']['HOME']}/.aws" in {mount.split(":")[1] for mount in aws["volumes"]}
    assert aws["env_file"] == [{"path": ".env", "required": False}]
    group = aws["user"].rpartition(":")[2]
    assert f"--gid {group} millrace" in (ROOT / "Dockerfile").read_text()
    locked = re.search(r"^moto==([0-9]+\.[0-9]+)\.", (ROOT / "requirements-dev.lock").read_text(), re.M)
    assert locked and services["moto"]["image"].startswith(f"motoserver/moto:{locked[1]}.")


def test_compose_or_the_program_reads_every_variable_of_env_example():
    names = re.findall(r"^#?([A-Z][A-Z0-9_]+)=", (DEPLOY / "env.example").read_text(), re.M)
    text = (DEPLOY / "compose.yaml").read_text()
    options = {variable(name) for name in OPTIONS}
    assert names and all(name in options or re.search(rf"\b{name}\b", text) for name in names)
    assert "deploy/.env" in (ROOT / ".gitignore").read_text().split()


@pytest.mark.parametrize("name", ["Dockerfile", "proxy/haproxy/Dockerfile"])
def test_base_images_are_pinned_by_digest(name: str):
    bases = re.findall(r"^FROM (\S+)", (ROOT / name).read_text(), re.M)
    assert len(set(bases)) == 1 and re.fullmatch(r"[\w./-]+:[\w.-]+@sha256:[0-9a-f]{64}", bases[0])


@pytest.mark.parametrize("name", ["compose.yaml", "compose.fleet.yaml"])
def test_compose_pins_every_image_and_stores_no_secret(name: str):
    text = (DEPLOY / name).read_text()
    for service in yaml.safe_load(text)["services"].values():
        tag = r":v?[0-9]+\.[0-9]+[0-9a-z.-]*@sha256:[0-9a-f]{64}$" if "build" not in service else ":local$"
        assert re.search(tag, service["image"])
    # The name of a key of S3 is not secret.
    assert not re.search(r"(PASSWORD|TOKEN|SECRET|(?<!ACCESS_)KEY)[ \t]*[:=][ \t]*[\"']?[A-Za-z0-9]", text)
    assert (DEPLOY / "secrets" / ".gitignore").read_text().split() == ["*", "!.gitignore"]


# ---- the fleet of compose ----

FLEET: dict[str, Any] = read(DEPLOY / "compose.fleet.yaml")
NODES = ("one", "two", "edge")


@pytest.mark.parametrize("node", NODES)
def test_the_variables_of_the_fleet_are_a_valid_configuration(node: str, tmp_path: Path):
    given = {name: value for name, value in FLEET["services"][node]["environment"].items() if value is not None}
    for name in FLEET["services"][node]["secrets"]:
        text = "postgresql://millrace:password@database/millrace" if name == "database_url" else "a secret of the fleet"
        (tmp_path / name).write_text(text)
    given = {name: value.replace("/run/secrets", str(tmp_path)) for name, value in given.items()}
    settings = load(profile=given["MILLRACE_PROFILE"], environ=given)
    assert settings.database.get_secret_value().endswith("@database/millrace")
    assert (
        settings.cluster.secret.get_secret_value()
        == settings.signing.secret.get_secret_value()
        == "a secret of the fleet"
    )
    assert settings.http.advertise == f"{node}:{settings.http.port}"
    if node != "edge":
        assert (
            settings.objects == "s3://recordings"
            and settings.s3.secret_key.get_secret_value() == "a secret of the fleet"
        )
        assert int(FLEET["services"][node]["stop_grace_period"].removesuffix("s")) > settings.serve.drain


def test_the_secrets_of_the_fleet_are_made_once(tmp_path: Path):
    if shutil.which("openssl") is None:
        pytest.skip("not installed: openssl")
    (tmp_path / "secrets").mkdir()
    script = shutil.copy(DEPLOY / "fleet-secrets", tmp_path)
    subprocess.run([script], check=True)
    made = {f"./secrets/{path.name}": path.read_text().strip() for path in (tmp_path / "secrets").iterdir()}
    assert set(made) == {secret["file"] for secret in FLEET["secrets"].values()}
    assert len(set(made.values())) == len(made) and all(len(text) >= 48 for text in made.values())
    url, password = made["./secrets/database_url"], made["./secrets/database_password"]
    assert url == f"postgresql://millrace:{password}@database/millrace"
    subprocess.run([script], check=True, cwd="/")
    assert {f"./secrets/{path.name}": path.read_text().strip() for path in (tmp_path / "secrets").iterdir()} == made


def test_the_fleet_is_open_at_haproxy_and_at_the_ports_of_webrtc_and_srt_only():
    services, settings = FLEET["services"], load(profile="container", environ={})
    ports = {port: name for name, service in services.items() for port in service.get("ports", ())}
    local = {port: name for port, name in ports.items() if port.startswith("127.0.0.1:")}
    assert local == {f"127.0.0.1:8000:{settings.admin.port}": "one", f"127.0.0.1:8001:{settings.admin.port}": "two"}
    front = (settings.rtmp.port, settings.http.port, settings.ws.port)
    media = {services[name]["environment"]["MILLRACE_WEBRTC__PORT"]: name for name in NODES}
    assert len(media) == len(NODES)
    opened = {f"{port}:{port}": "haproxy" for port in front} | {f"{port}:{port}": name for port, name in media.items()}
    opened |= {f"{port}:{port}/udp": name for port, name in media.items()}
    for name in ("one", "two"):
        own = services[name]["environment"]
        opened |= {f"{own[f'MILLRACE_SRT__{p}']}:{own[f'MILLRACE_SRT__{p}']}/udp": name for p in ("PORT", "SRTLA_PORT")}
    assert ports == local | opened


def test_the_nodes_of_the_fleet_trust_haproxy_and_nobody_else():
    address = FLEET["services"]["haproxy"]["networks"]["default"]["ipv4_address"]
    (network,) = FLEET["networks"]["default"]["ipam"]["config"]
    assert ipaddress.ip_address(address) in ipaddress.ip_network(network["subnet"])
    assert ipaddress.ip_address(address) not in ipaddress.ip_network(network["ip_range"]), "no other container gets it"
    for node in NODES:
        given = FLEET["services"][node]["environment"]
        trusted = {name: value for name, value in given.items() if name.endswith(("FORWARDED_FROM", "PROXY_FROM"))}
        assert set(trusted.values()) == {address}
        assert len(trusted) == (1 if node == "edge" else 3)


def test_haproxy_finds_the_nodes_of_the_fleet_by_their_aliases():
    services = FLEET["services"]
    given = services["haproxy"]["environment"]
    config = (ROOT / "proxy" / "haproxy" / "haproxy.cfg").read_text()
    assert all(re.search(rf"\b{name}\b", config) for name in given)
    aliases = {name: services[name]["networks"]["default"]["aliases"] for name in NODES}
    assert aliases == {
        "one": [given["FRONT_GATEWAYS"]],
        "two": [given["FRONT_GATEWAYS"]],
        "edge": [given["FRONT_PLAYERS"]],
    }
    grace, drain = services["haproxy"]["stop_grace_period"], given["FRONT_DRAIN"]
    assert int(grace.removesuffix("s")) > int(drain.removesuffix("s"))


def test_every_service_of_the_fleet_has_a_health_check_and_few_rights():
    for name, service in FLEET["services"].items():
        assert name in NODES or service["healthcheck"]["test"][0] == "CMD"  # the image of the nodes has its own
        assert service["read_only"] is True and service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert set(service.get("secrets", ())) <= set(FLEET["secrets"])
        assert {mount.split(":")[0] for mount in service.get("volumes", ())} <= set(FLEET["volumes"])


def test_the_fleet_has_the_database_and_the_store_of_the_tests():
    services = FLEET["services"]
    major = re.search(r"^postgres:(\d+)", services["database"]["image"])
    assert major and int(major[1]) >= 15
    module = (ROOT / "tests" / "support" / "versity" / "go.mod").read_text()
    version = re.search(r"github\.com/versity/versitygw (v\S+)", module)
    assert version and services["objects"]["image"].startswith(f"versity/versitygw:{version[1]}@")


def test_prometheus_scrapes_the_service_and_loads_existing_rule_files():
    config = read(DEPLOY / "prometheus" / "prometheus.yml")
    (job,) = config["scrape_configs"]
    assert job["static_configs"][0]["targets"] == ["millrace:8000"]
    assert job["job_name"] == "millrace"  # what the alerts select by
    assert all((DEPLOY / "prometheus" / name).exists() for name in config["rule_files"])


# ---- Dockerfile ----


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile as pairs of instruction and arguments, with continued lines joined."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.M).replace("\\\n", " ")
    return [(line.split(None, 1)[0], line.split(None, 1)[1].strip()) for line in text.splitlines() if line.strip()]


def test_the_image_is_built_in_stages_from_a_slim_pinned_base():
    bases = [rest for name, rest in instructions() if name == "FROM"]
    assert len(bases) == 2
    assert all(re.match(r"python:3\.\d+-slim-\w+\b", base) for base in bases)
    assert bases[0].endswith(" AS build")


def health_check() -> list[str]:
    health = dict(instructions())["HEALTHCHECK"]
    command: list[str] = json.loads(health[health.index("CMD") + 3 :])
    return command


def test_the_image_runs_without_root_and_without_a_shell():
    last = dict(instructions())
    assert re.fullmatch(r"[1-9][0-9]+:[1-9][0-9]+", last["USER"])
    for name in ("ENTRYPOINT", "CMD"):
        assert isinstance(json.loads(last[name]), list)
    assert health_check()[0] == "python"


@pytest.mark.parametrize(
    ("way", "host", "asked"),
    [
        ("variables", "127.0.0.2", "127.0.0.2"),
        ("file", "127.0.0.2", "127.0.0.2"),
        ("variables", "::", "127.0.0.1"),  # containers without IPv6 have no ::1
        ("variables", "", "127.0.0.1"),
    ],
)
def test_the_health_check_asks_the_listener_of_the_settings_without_a_proxy(
    tmp_path: Path, way: str, host: str, asked: str
):
    class Health(BaseHTTPRequestHandler):
        status = 200

        def do_GET(self) -> None:
            self.send_response(Health.status if self.path == "/healthcheck" else 404)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    environ = {"HTTP_PROXY": "http://127.0.0.1:1"}
    if way == "file":
        environ["MILLRACE_CONFIG"] = str(tmp_path / "own.toml")
        (tmp_path / "own.toml").write_text(f'data = "{tmp_path}"\n[http]\nhost = "{host}"\n')
    else:
        environ |= {"MILLRACE_DATA": str(tmp_path), "MILLRACE_HTTP__HOST": host}

    def check() -> int:
        command = [sys.executable, *health_check()[1:]]
        return subprocess.run(command, env=environ, capture_output=True, timeout=at_most(30)).returncode

    with HTTPServer((asked, 0), Health) as server:
        assert check() == 1  # the ports are not open yet
        (tmp_path / "ports.json").write_text(json.dumps({"http": server.server_port}))
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            assert check() == 0
            Health.status = 503
            assert check() == 1
        finally:
            server.shutdown()
            thread.join()


def test_dependencies_are_installed_with_hashes_and_without_caches():
    for name, rest in instructions():
        if name != "RUN":
            continue
        for command in re.split(r"&&|;", rest):
            words = shlex.split(command)
            if "pip" in words[0] and "install" in words:
                assert "--no-cache-dir" in words
                assert "--require-hashes" in words or "--no-deps" in words
            if words[:2] == ["apt-get", "install"]:
                assert "--no-install-recommends" in words and "rm -rf /var/lib/apt/lists/*" in rest
            assert words[0] not in ("sudo", "wget", "curl")


def test_the_dockerfile_fetches_no_files_and_sets_no_secrets():
    for name, rest in instructions():
        assert name != "ADD" and name != "MAINTAINER"
        assert not (name in ("ENV", "ARG") and re.search(r"TOKEN|SECRET|PASSWORD", rest))
        if name == "WORKDIR":
            assert rest.startswith("/")


def test_the_image_exposes_the_default_ports_and_uses_the_container_profile():
    settings = load(profile="container", environ={})
    exposed_ports = next(set(rest.split()) for name, rest in instructions() if name == "EXPOSE")
    sections = ("rtmp", "rtmps", "http", "https", "ws", "wss", "webrtc", "admin")
    ports = {str(getattr(settings, section).port) for section in sections}
    udp = (settings.webrtc.port, settings.srt.port, settings.srt.srtla_port)
    assert exposed_ports == ports | {f"{port}/udp" for port in udp}
    environment = " ".join(rest for name, rest in instructions() if name == "ENV")
    assert "MILLRACE_PROFILE=container" in environment
    assert str(settings.data) == next(rest for name, rest in instructions() if name == "VOLUME")


def test_the_build_context_contains_only_copied_files():
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    allowed = {line[1:] for line in ignore if line.startswith("!")}
    copied = {
        source.removeprefix("./")
        for name, rest in instructions()
        if name == "COPY" and "--from" not in rest
        for source in shlex.split(rest)[:-1]
    }
    assert copied == allowed
    assert "*" in ignore and not any(fnmatch.fnmatch("deploy/secrets/admin_token", f"{a}*") for a in allowed)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["readme"] in allowed


def test_the_debian_package_recommends_authorities_and_time_zones():
    """Small systems have none. Then no webhook over https is trusted, and no schedule has a zone."""
    recommended = re.search("^Recommends: (.*)$", (ROOT / "deploy/debian/control").read_text(), re.M)
    assert recommended and {"ca-certificates", "tzdata"} <= set(recommended[1].split(", "))
