"""The Kubernetes overlay with PostgreSQL: valid by the schema, with existing options and the documented secrets."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from gateway.settings.layers import OPTIONS, is_secret, variable

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "deploy" / "kubernetes-postgres"
TEXT = (FOLDER / "kustomization.yaml").read_text()
KUSTOMIZATION: dict[str, Any] = yaml.safe_load(TEXT)
OBJECTS: list[dict[str, Any]] = list(yaml.safe_load_all((FOLDER / "database.yaml").read_text()))
DATABASE = next(one for one in OBJECTS if one["kind"] == "StatefulSet")


@pytest.mark.parametrize("version", ["1.28", "1.34"])
@pytest.mark.parametrize("one", OBJECTS, ids=lambda one: str(one["kind"]))
def test_every_object_is_valid_by_the_schema(one: dict[str, Any], version: str):
    kubernetes_validate.validate(one, version, strict=True)


def test_the_overlay_adds_its_manifest_to_the_base():
    assert KUSTOMIZATION["resources"] == ["../kubernetes", "database.yaml"]
    assert {path.name for path in FOLDER.glob("*.yaml")} == {"kustomization.yaml", "database.yaml"}
    base = yaml.safe_load((FOLDER / "../kubernetes/kustomization.yaml").read_text())
    merged = {one["name"] for kind in ("configMapGenerator", "secretGenerator") for one in base[kind]}
    adding = [one for kind in ("configMapGenerator", "secretGenerator") for one in KUSTOMIZATION[kind]]
    assert {one["name"] for one in adding if one.get("behavior") == "merge"} == merged


def test_options_exist():
    names = set(re.findall(r"\bMILLRACE_[A-Z0-9_]+\b", TEXT))
    assert names <= {variable(name) for name in OPTIONS}
    (generator,) = KUSTOMIZATION["configMapGenerator"]
    settings = dict(literal.split("=", 1) for literal in generator["literals"])
    assert not any(is_secret(name) for name in OPTIONS if variable(name) in settings)


def test_the_documented_commands_create_all_used_secrets(tmp_path: Path):
    """Runs the commands in the comment of the file, with words for the two keys."""
    if shutil.which("openssl") is None:
        pytest.skip("not installed: openssl")
    commands = re.findall(r"^#   ((?:password=|printf).*)$", TEXT, re.M)
    script = re.sub(r"<[a-z ]+>", "word", "\n".join(commands))
    subprocess.run(["sh", "-ec", script], cwd=tmp_path, check=True)
    made = {
        file.name: dict(line.split("=", 1) for line in file.read_text().splitlines()) for file in tmp_path.iterdir()
    }
    assert set(made) == {name for one in KUSTOMIZATION["secretGenerator"] for name in one["envs"]}
    password = made["database.env"]["password"]
    assert made["database.env"] == {"password": password, "uri": f"postgresql://millrace:{password}@database/millrace"}
    assert set(made["objects.env"]) == {"MILLRACE_S3__ACCESS_KEY", "MILLRACE_S3__SECRET_KEY"}
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert {f"deploy/kubernetes-postgres/{name}" for name in made} <= set(ignored)


def test_the_database_is_that_of_the_fleet_of_compose():
    fleet = yaml.safe_load((ROOT / "deploy" / "compose.fleet.yaml").read_text())["services"]["database"]
    (container,) = DATABASE["spec"]["template"]["spec"]["containers"]
    assert container["image"] == fleet["image"]
    values = {one["name"]: one["value"] for one in container["env"] if "value" in one}
    assert values.pop("PGDATA").startswith(container["volumeMounts"][0]["mountPath"] + "/")
    assert values == {name: value for name, value in fleet["environment"].items() if not name.endswith("_FILE")}
    assert f"{DATABASE['spec']['template']['spec']['securityContext']['runAsUser']}" in fleet["user"]
    folders = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert folders == {*fleet["tmpfs"], fleet["volumes"][0].split(":")[1]}
