"""The Kubernetes manifests as an API server takes them: rendered by kustomize, judged by Pod Security admission."""

import re
import shutil
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.support.kubernetes import judge

# It compiles a part of Kubernetes for 40 s. Manifests change rarely. Unit tests compare them with the API's schema.
pytestmark = pytest.mark.nightly

DEPLOY = Path(__file__).parents[3] / "deploy"


@pytest.fixture
def manifests(tmp_path: Path) -> Path:
    """Copies the manifests and adds the secrets that an operator creates."""
    for name in ("kubernetes", "kubernetes-postgres"):
        shutil.copytree(DEPLOY / name, tmp_path / name, ignore=shutil.ignore_patterns("*.env"))
    names = ("MILLRACE_SIGNING__SECRET", "MILLRACE_CLUSTER__SECRET", "MILLRACE_ADMIN__TOKEN")
    (tmp_path / "kubernetes" / "secrets.env").write_text("".join(f"{name}=0123456789abcdef\n" for name in names))
    return tmp_path / "kubernetes"


@pytest.fixture
def overlay(manifests: Path) -> Path:
    """Adds the secrets of the overlay with PostgreSQL."""
    folder = manifests.parent / "kubernetes-postgres"
    (folder / "database.env").write_text("password=abc\nuri=postgresql://millrace:abc@database/millrace\n")
    (folder / "objects.env").write_text("MILLRACE_S3__ACCESS_KEY=a\nMILLRACE_S3__SECRET_KEY=b\n")
    return folder


def pods(objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [one["spec"]["template"]["spec"] for one in objects if "template" in one.get("spec", {})]


def test_an_api_server_admits_all_pods(manifests: Path):
    assert judge(manifests)["refused"] == []


def test_a_port_of_the_host_is_refused(manifests: Path):
    path = manifests / "gateway.yaml"
    gateway, *others = yaml.safe_load_all(path.read_text())
    gateway["spec"]["template"]["spec"]["containers"][0]["ports"][0]["hostPort"] = 1935
    path.write_text(yaml.safe_dump_all([gateway, *others]))
    assert judge(manifests)["refused"] == ['StatefulSet gateway: hostPort (container "gateway" uses hostPort 1935)']


def test_rendered_pods_name_their_image_by_digest_and_settings_that_exist(manifests: Path):
    objects = judge(manifests)["objects"]
    made = {(one["kind"], one["metadata"]["name"]) for one in objects}
    assert {one["metadata"].get("namespace", "millrace") for one in objects} == {"millrace"}
    assert len(pods(objects)) == 2
    for pod in pods(objects):
        (container,) = pod["containers"]
        assert re.fullmatch(r"registry\.example\.com/millrace@sha256:[0-9a-f]{64}", container["image"])
        settings, secrets = container["envFrom"]
        assert {("ConfigMap", settings["configMapRef"]["name"]), ("Secret", secrets["secretRef"]["name"])} <= made


def test_the_overlay_with_postgresql_is_admitted_and_valid(overlay: Path) -> None:
    found = judge(overlay)
    assert found["refused"] == []
    for one in found["objects"]:
        for version in ("1.28", "1.34"):
            kubernetes_validate.validate(one, version, strict=True)


def test_all_nodes_of_the_overlay_find_the_database_and_the_bucket(overlay: Path) -> None:
    objects = {(one["kind"], one["metadata"]["name"]): one for one in judge(overlay)["objects"]}
    (secret,) = (name for kind, name in objects if kind == "Secret" and name.startswith("database-"))
    reference = {"name": "MILLRACE_DATABASE", "valueFrom": {"secretKeyRef": {"name": secret, "key": "uri"}}}
    for workload in (("StatefulSet", "gateway"), ("Deployment", "edge")):
        (container,) = objects[workload]["spec"]["template"]["spec"]["containers"]
        assert reference in container["env"]
        assert "MILLRACE_EDGE__UPSTREAM" not in {one["name"] for one in container["env"]}
        settings, secrets = container["envFrom"]
        assert objects["ConfigMap", settings["configMapRef"]["name"]]["data"]["MILLRACE_OBJECTS"] == "s3://recordings"
        assert len(objects["Secret", secrets["secretRef"]["name"]]["data"]) == 5
    assert objects["StatefulSet", "gateway"]["spec"]["replicas"] == 2
    (password,) = (
        one["valueFrom"]["secretKeyRef"]
        for one in objects["StatefulSet", "database"]["spec"]["template"]["spec"]["containers"][0]["env"]
        if one["name"] == "POSTGRES_PASSWORD"
    )
    assert password == {"name": secret, "key": "password"}


def test_only_gateways_and_edges_reach_the_database(overlay: Path) -> None:
    objects = {(one["kind"], one["metadata"]["name"]): one for one in judge(overlay)["objects"]}
    ((rule,), (peer,)) = (
        (policy := objects["NetworkPolicy", "database"]["spec"])["ingress"],
        policy["ingress"][0]["from"],
    )
    assert rule["ports"] == [{"port": "postgres"}]
    wanted = {one["key"]: set(one["values"]) for one in peer["podSelector"]["matchExpressions"]}
    admitted = {
        name
        for (kind, name), one in objects.items()
        if kind in ("StatefulSet", "Deployment")
        and all(one["spec"]["template"]["metadata"]["labels"][key] in values for key, values in wanted.items())
    }
    assert admitted == {"gateway", "edge"}
