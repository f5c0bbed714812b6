"""The Kubernetes manifests: valid by the schema, with existing options, and consistent with each other."""

import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from gateway.http.origin_policy import OriginPolicy
from gateway.settings import Settings, load
from gateway.settings.layers import OPTIONS, is_secret, variable

FOLDER = Path(__file__).parents[3] / "deploy" / "kubernetes"
KUSTOMIZATION: dict[str, Any] = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
SECRETS = ("MILLRACE_SIGNING__SECRET", "MILLRACE_CLUSTER__SECRET", "MILLRACE_ADMIN__TOKEN")
OBJECTS: dict[tuple[str, str], dict[str, Any]] = {
    (one["kind"], one["metadata"]["name"]): one
    for name in KUSTOMIZATION["resources"]
    for one in yaml.safe_load_all((FOLDER / name).read_text())
}
WORKLOADS = [("StatefulSet", "gateway"), ("Deployment", "edge")]


def pod(workload: tuple[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = OBJECTS[workload]["spec"]["template"]["spec"]
    return found


def container(workload: tuple[str, str]) -> dict[str, Any]:
    (only,) = pod(workload)["containers"]
    found: dict[str, Any] = only
    return found


def environment(workload: tuple[str, str]) -> dict[str, str]:
    """The environment variables of a container as its program reads them."""
    given: dict[str, str] = {}
    for source in container(workload)["envFrom"]:
        if "configMapRef" in source:
            (generator,) = KUSTOMIZATION["configMapGenerator"]
            assert source["configMapRef"]["name"] == generator["name"]
            given |= dict(literal.split("=", 1) for literal in generator["literals"])
        else:
            given |= dict.fromkeys(SECRETS, "a secret of the cluster")
    for entry in container(workload)["env"]:
        if "value" in entry:
            given[entry["name"]] = re.sub(r"\$\((\w+)\)", lambda m: given[m[1]], entry["value"])
        else:
            fields = {"metadata.name": f"{workload[1]}-0", "status.hostIP": "192.0.2.1"}
            given[entry["name"]] = fields[entry["valueFrom"]["fieldRef"]["fieldPath"]]
    return given


def settings(workload: tuple[str, str]) -> Settings:
    given = {name: value for name, value in environment(workload).items() if name.startswith("MILLRACE_")}
    return load(profile="container", environ=given)


@pytest.mark.parametrize("name", OBJECTS, ids=lambda n: "/".join(n))
@pytest.mark.parametrize("version", ["1.28", "1.34"])
def test_every_object_is_valid_by_the_schema(name: tuple[str, str], version: str):
    kubernetes_validate.validate(OBJECTS[name], version, strict=True)


def test_the_kustomization_lists_every_manifest():
    files = {path.name for path in FOLDER.glob("*.yaml")} - {"kustomization.yaml"}
    assert files == set(KUSTOMIZATION["resources"])


@pytest.mark.parametrize("workload", WORKLOADS)
def test_the_variables_of_a_workload_are_a_valid_configuration(workload: tuple[str, str]):
    assert settings(workload).cluster.secret.get_secret_value()


def test_the_documented_command_creates_all_used_secrets():
    text = (FOLDER / "kustomization.yaml").read_text()
    made = re.findall(r"MILLRACE_\w+", text.split("for name in ")[1].split("\n")[0])
    assert tuple(made) == SECRETS
    assert all(is_secret(next(o for o in OPTIONS if variable(o) == name)) for name in made)
    assert KUSTOMIZATION["secretGenerator"][0]["envs"] == ["secrets.env"]
    assert "deploy/kubernetes/secrets.env" in (FOLDER.parents[1] / ".gitignore").read_text().splitlines()


def test_options_mentioned_in_comments_exist():
    text = (FOLDER / "kustomization.yaml").read_text()
    options = {variable(name) for name in OPTIONS}
    assert set(re.findall(r"\bMILLRACE_[A-Z0-9_]+\b", text)) <= options


@pytest.mark.parametrize("workload", WORKLOADS)
def test_the_grace_period_of_pods_is_longer_than_the_drain_time(workload: tuple[str, str]):
    assert pod(workload)["terminationGracePeriodSeconds"] > settings(workload).serve.drain


@pytest.mark.parametrize("workload", WORKLOADS)
def test_pod_probes_use_existing_routes(workload: tuple[str, str]):
    one = container(workload)
    assert one["livenessProbe"]["httpGet"] == {"path": "/healthcheck", "port": "http"}
    assert one["readinessProbe"]["httpGet"] == {"path": "/ready", "port": "http"}


@pytest.mark.parametrize("workload", WORKLOADS)
def test_pods_write_only_to_their_volumes_and_run_without_root(workload: tuple[str, str]):
    one, whole = container(workload), pod(workload)
    assert one["securityContext"]["readOnlyRootFilesystem"] is True
    assert whole["securityContext"]["runAsUser"] == 10001
    assert [m["mountPath"] for m in one["volumeMounts"]] == [str(settings(workload).data), "/tmp"]


def test_container_ports_are_those_of_the_programs():
    gateway = {p["name"]: p["containerPort"] for p in container(("StatefulSet", "gateway"))["ports"]}
    told = settings(("StatefulSet", "gateway"))
    ports = {name: getattr(told, name).port for name in ("rtmp", "http", "ws", "admin", "srt", "webrtc")}
    assert gateway == ports | {"webrtc-tcp": told.webrtc.port, "srtla": told.srt.srtla_port}
    edge = {p["name"]: p["containerPort"] for p in container(("Deployment", "edge"))["ports"]}
    assert edge == {"http": settings(("Deployment", "edge")).http.port}


@pytest.mark.parametrize("name", [name for kind, name in OBJECTS if kind == "Service"])
def test_services_lead_to_ports_of_their_pods(name: str):
    service = OBJECTS["Service", name]["spec"]
    (workload,) = (w for w in WORKLOADS if OBJECTS[w]["spec"]["template"]["metadata"]["labels"] == service["selector"])
    ports = {p["name"]: p["containerPort"] for p in container(workload)["ports"]}
    for port in service["ports"]:
        assert port["port"] == ports[port["targetPort"]]


def test_nodes_use_names_of_the_headless_service():
    stateful = OBJECTS["StatefulSet", "gateway"]
    headless = OBJECTS["Service", stateful["spec"]["serviceName"]]
    assert headless["spec"]["clusterIP"] == "None" and headless["spec"]["publishNotReadyAddresses"] is True
    advertised = settings(("StatefulSet", "gateway")).http.advertise
    assert advertised == f"gateway-0.{headless['metadata']['name']}:8080"
    assert settings(("Deployment", "edge")).edge.upstream == (advertised,)


def test_the_api_is_not_publicly_reachable():
    outside = [s for (kind, _), s in OBJECTS.items() if kind == "Service" and s["spec"].get("type") == "LoadBalancer"]
    assert [{p["port"] for p in s["spec"]["ports"]} for s in outside] == [{1935, 8081}, {8890, 5000}]
    ingresses = {name: o for (kind, name), o in OBJECTS.items() if kind == "Ingress"}
    paths = {name: one["spec"]["rules"][0]["http"]["paths"] for name, one in ingresses.items()}
    backends = {name: [path["backend"]["service"] for path in some] for name, some in paths.items()}
    http, ws = {"port": {"name": "http"}}, {"port": {"name": "ws"}}
    assert backends == {"play": [{"name": "play"} | http], "webrtc": [{"name": "whip"} | http, {"name": "whip"} | ws]}


def admitted(workload: tuple[str, str]) -> dict[str, list[dict[str, Any]]]:
    """The allowed peers of each port of the pods, as lists of selectors. An empty list allows everyone."""
    labels = OBJECTS[workload]["spec"]["template"]["metadata"]["labels"]
    policies = [o["spec"] for (kind, _), o in OBJECTS.items() if kind == "NetworkPolicy"]
    (policy,) = (one for one in policies if one["podSelector"]["matchLabels"].items() <= labels.items())
    assert policy["policyTypes"] == ["Ingress"]
    named = {p["name"]: p.get("protocol", "TCP") for p in container(workload)["ports"]}
    rules = [(port, rule.get("from", [])) for rule in policy["ingress"] for port in rule["ports"]]
    assert all(named[port["port"]] == port.get("protocol", "TCP") for port, _ in rules)
    return {port["port"]: peers for port, peers in rules}


def test_push_ports_are_public_but_playback_is_open_only_inside():
    inside = [
        {"podSelector": {"matchLabels": {"app": "millrace"}}},
        {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress-nginx"}}},
    ]
    pushes: dict[str, list[dict[str, Any]]] = {
        name: [] for name in ("rtmp", "ws", "webrtc", "webrtc-tcp", "srt", "srtla")
    }
    assert admitted(("StatefulSet", "gateway")) == pushes | {"http": inside}
    assert admitted(("Deployment", "edge")) == {"http": inside}


def test_no_proxy_network_is_trusted_by_default():
    for workload in WORKLOADS:
        told = settings(workload)
        trusted = (told.http.forwarded_from, told.ws.forwarded_from, told.admin.forwarded_from, told.rtmp.proxy_from)
        assert trusted == ((), (), (), ())


def test_webrtc_media_reaches_the_gateway_on_the_addressed_node():
    gateway, service = OBJECTS["StatefulSet", "gateway"], OBJECTS["Service", "webrtc"]["spec"]
    told = settings(("StatefulSet", "gateway")).webrtc
    assert told.advertise == ("192.0.2.1",)
    assert {(p["nodePort"], p["port"], p["protocol"]) for p in service["ports"]} == {
        (told.port, told.port, "UDP"),
        (told.port, told.port, "TCP"),
    }
    assert (service["type"], service["externalTrafficPolicy"]) == ("NodePort", "Local")
    (apart,) = pod(("StatefulSet", "gateway"))["affinity"]["podAntiAffinity"][
        "requiredDuringSchedulingIgnoredDuringExecution"
    ]
    assert apart["labelSelector"]["matchLabels"] == gateway["spec"]["selector"]["matchLabels"]
    assert apart["topologyKey"] == "kubernetes.io/hostname"


def backend_of(path: str) -> tuple[str, str]:
    """The service and its port that get a request, by ingress-nginx: regular expressions, the longest path first."""
    ingresses = [one["spec"]["rules"] for (kind, _), one in OBJECTS.items() if kind == "Ingress"]
    assert {rule["host"] for rules in ingresses for rule in rules} == {"live.example.com"}
    paths = [path for (rule,) in ingresses for path in rule["http"]["paths"]]
    found = next(one for one in sorted(paths, key=lambda one: -len(one["path"])) if re.match(one["path"], path))
    service = found["backend"]["service"]
    return service["name"], service["port"]["name"]


@pytest.mark.parametrize("path", ["/whip", "/abc/whip", "/abc/whep", "/abc/whip/0123", "/abc/whep/0123"])
def test_webrtc_requests_are_routed_to_gateways(path: str):
    assert backend_of(path) == ("whip", "http")
    assert backend_of("/abc/whep.html") == backend_of("/abc/live.m3u8") == backend_of("/") == ("play", "http")


def test_websocket_pushes_of_pages_are_routed_to_gateways():
    """The page pushes to wss://<its own host>/stream/<id>: tests/integration/deploy/test_templates.py."""
    told = settings(("StatefulSet", "gateway"))
    assert (told.tls.in_front, told.wss.port) == (True, 443)
    assert backend_of("/stream/abc") == ("whip", "ws")
    (target,) = (p["targetPort"] for p in OBJECTS["Service", "whip"]["spec"]["ports"] if p["name"] == "ws")
    ports = {p["name"]: p["containerPort"] for p in container(("StatefulSet", "gateway"))["ports"]}
    assert ports[target] == told.ws.port
    assert OriginPolicy(told.ws.origins).allows(["https://live.example.com"], ["live.example.com"])


def test_the_autoscaler_sets_the_number_of_edges():
    target = OBJECTS["HorizontalPodAutoscaler", "edge"]["spec"]["scaleTargetRef"]
    workload = OBJECTS[target["kind"], target["name"]]
    assert "replicas" not in workload["spec"]
    assert container(("Deployment", "edge"))["resources"]["requests"]["cpu"]  # what a share of it is counted by
