"""The Kubernetes manifests as an API server takes them: rendered by kustomize, judged by Pod Security admission."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.kubernetes import judge

# It compiles a part of Kubernetes for 40 s. Manifests change rarely. Unit tests compare them with the API's schema.
pytestmark = pytest.mark.nightly

FOLDER = Path(__file__).parents[3] / "deploy" / "kubernetes"


@pytest.fixture
def manifests(tmp_path: Path) -> Path:
    """Copies the manifests and adds the secrets that an operator creates."""
    copy = Path(shutil.copytree(FOLDER, tmp_path / "kubernetes", ignore=shutil.ignore_patterns("secrets.env")))
    names = ("MILLRACE_SIGNING__SECRET", "MILLRACE_CLUSTER__SECRET", "MILLRACE_ADMIN__TOKEN")
    (copy / "secrets.env").write_text("".join(f"{name}=0123456789abcdef\n" for name in names))
    return copy


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
