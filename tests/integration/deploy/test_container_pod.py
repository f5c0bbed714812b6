"""The pod of a gateway on Kubernetes, as podman runs it from the manifest."""

from __future__ import annotations

import base64
import json
import secrets
import urllib.error
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.clients import push
from tests.support.containers import ROOT, Container, image, plays, podman
from tests.support.free_ports import free_ports
from tests.support.gateway import http
from tests.support.media import Film
from tests.support.tools import need

# The image takes minutes where no other test has built it.
pytestmark = pytest.mark.nightly

FILM = Film("contained-pod", seconds=20)
FOLDER = ROOT / "deploy/kubernetes"


class Pod(Container):
    """The pod of `gateway.yaml`, whose ports are free ports of the host. folder: for the file of podman."""

    def __init__(self, folder: Path) -> None:
        self.pod, self.token = f"millrace-tests-{secrets.token_hex(6)}", secrets.token_urlsafe(24)
        self.name = f"{self.pod}-gateway"
        stateful, *_ = yaml.safe_load_all((FOLDER / "gateway.yaml").read_text())
        template, (claim,) = stateful["spec"]["template"], stateful["spec"]["volumeClaimTemplates"]
        spec, self.volume = template["spec"], f"{self.pod}-data"
        (container,) = spec["containers"]
        container["image"] = image()
        spec["volumes"].append({"name": "data", "persistentVolumeClaim": {"claimName": self.volume}})
        # Only a cluster expands one variable in another, and knows the address of a node.
        for variable in container["env"]:
            if variable.get("valueFrom") == {"fieldRef": {"fieldPath": "status.hostIP"}}:
                variable.update(value="127.0.0.1", valueFrom=None)
            elif "value" in variable:
                variable["value"] = variable["value"].replace("$(POD_NAME)", self.pod)
        published = container["ports"]
        self.ports = dict(zip((port["name"] for port in published), free_ports(len(published)), strict=True))
        for port in published:
            port.update(hostPort=self.ports[port["name"]], hostIP="127.0.0.1")
        container["envFrom"] = [{"configMapRef": {"name": "settings"}}, {"secretRef": {"name": self.pod}}]
        settings = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())["configMapGenerator"][0]["literals"]
        documents = [
            document("ConfigMap", "settings", data=dict(line.split("=", 1) for line in settings)),
            document("PersistentVolumeClaim", self.volume, spec=claim["spec"]),
            document("Pod", self.pod, spec=spec),
        ]
        given = {f"MILLRACE_{name}__SECRET": secrets.token_hex(24) for name in ("SIGNING", "CLUSTER")}
        given["MILLRACE_ADMIN__TOKEN"] = self.token
        file, secret = folder / "pod.yaml", folder / "secret.json"
        file.write_text(yaml.safe_dump_all(documents))
        secret.write_text(
            json.dumps({name: base64.b64encode(value.encode()).decode() for name, value in given.items()})
        )
        podman("secret", "create", self.pod, str(secret))
        podman("play", "kube", str(file))

    def health(self) -> str:
        """Asks as the probe of the manifest does; podman would need curl in the image for it."""
        try:
            return (
                "healthy" if http("GET", f"http://127.0.0.1:{self.ports['http']}/ready").status == 200 else "starting"
            )
        except (OSError, urllib.error.URLError):
            return "starting"

    def remove(self) -> None:
        podman("pod", "rm", "--force", "--time=0", self.pod, expected=None)
        podman("volume", "rm", "--force", self.volume, expected=None)
        podman("secret", "rm", self.pod, expected=None)


def document(kind: str, name: str, **fields: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, **fields}


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Pod]:
    image()
    need("ffmpeg", "catatonit")
    pod = Pod(tmp_path)
    try:
        pod.wait_ready()
        yield pod
    finally:
        pod.remove()


def test_the_pod_of_the_manifest_plays_a_push(gateway: Pod) -> None:
    fields = gateway.rights()
    assert (fields["Uid"].split()[0], fields["CapEff"], fields["NoNewPrivs"]) == ("10001", "0" * 16, "1")
    channel = gateway.channel()
    with push(FILM, channel.push):
        plays(channel, FILM)
    assert gateway.stop(120) == 0, gateway.log[-2000:]
