"""A release: its bill of materials, and the workflow that publishes it."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tools.sbom import libraries
from tools.vendor import PACKAGES, VENDOR, bundled

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def jobs() -> dict[str, Any]:
    workflow: dict[str, Any] = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text(encoding="utf-8"))
    assert workflow[True] == {"push": {"tags": ["v*"]}}, "`on` is a boolean in YAML 1.1"
    assert workflow["permissions"] == {"contents": "read"}
    found: dict[str, Any] = workflow["jobs"]
    return found


def test_each_library_of_the_pages_is_in_the_bill_of_materials() -> None:
    found = {one["name"]: one for one in libraries()}
    folders = {path for path in VENDOR.iterdir() if path.is_dir()}
    parts = {name for folder in folders if (folder / "LICENSE.bundled").exists() for name, _ in bundled(folder)}
    assert {"@moq/watch", "@moq/net", "zod"} <= parts
    assert found.keys() == {package.npm for package in PACKAGES.values()} | parts
    assert len(PACKAGES) == len(folders)
    hls = found["hls.js"]
    assert hls["purl"] == f"pkg:npm/hls.js@{(VENDOR / 'hls.js/VERSION').read_text().strip()}"
    assert found["@preact/signals"]["purl"].startswith("pkg:npm/%40preact/signals@")
    (script,) = (file for file in hls["components"] if file["name"] == "hls.min.js")
    assert script["hashes"][0]["content"] == hashlib.sha256((VENDOR / "hls.js/hls.min.js").read_bytes()).hexdigest()


def test_nothing_is_published_unless_all_is_built(jobs: dict[str, Any]) -> None:
    assert set(jobs["publish"]["needs"]) == {"build", "debian-13", "image"}
    assert (jobs["image"]["needs"], jobs["docs"]["needs"]) == ("build", "publish")
    assert "tools/release" in [step.get("run") for step in jobs["build"]["steps"]]


def test_only_the_jobs_that_publish_have_rights(jobs: dict[str, Any]) -> None:
    rights = {
        name: {key for key, value in job.get("permissions", {}).items() if value == "write"}
        for name, job in jobs.items()
    }
    assert rights == {
        "build": set(), "debian-13": set(), "image": {"packages"},
        "publish": {"contents", "id-token", "attestations"}, "docs": {"pages", "id-token"},
    }  # fmt: skip
    secrets = re.findall(r"secrets\.(\w+)", (ROOT / ".github/workflows/release.yml").read_text(encoding="utf-8"))
    assert set(secrets) == {"GITHUB_TOKEN"}, "no password is kept for a release"


def test_each_action_has_a_version(jobs: dict[str, Any]) -> None:
    used = [step["uses"] for job in jobs.values() for step in job["steps"] if "uses" in step]
    assert used and all(re.search(r"@(v\d+|release/v\d+)$", name) for name in used), used
