"""Writes the software bill of materials of an installation: its Python packages, and the libraries of the web pages.

    python -m tools.sbom VENV FILE

VENV is a virtual environment with the wheel. FILE gets CycloneDX 1.6 as JSON, without times and random numbers: equal
packages give an equal file.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tools.vendor import PACKAGES, VENDOR, bundled, pinned_digests, pinned_version

_TOOL = Path(sys.executable).with_name("cyclonedx-py")


def libraries() -> list[dict[str, Any]]:
    """Returns the libraries in `gateway/console/vendor`, as components of CycloneDX."""
    found = []
    for folder, package in sorted(PACKAGES.items()):
        version = pinned_version(VENDOR / folder)
        found.append(
            {
                **_library(package.npm, version),
                "components": [
                    {"type": "file", "name": name, "hashes": [{"alg": "SHA-256", "content": digest}]}
                    for name, digest in pinned_digests(VENDOR / folder).items()
                ],
            }
        )
        if package.bundle is not None:
            parts = bundled(VENDOR / folder)
            found += [_library(name, pinned) for name, pinned in parts if name != package.npm]
    return found


def _library(name: str, version: str) -> dict[str, Any]:
    purl = f"pkg:npm/{quote(name, safe='/')}@{version}"
    return {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}


def main() -> None:
    venv, file = sys.argv[1:]
    options = ["--pyproject", "pyproject.toml", "--output-reproducible", "--of", "JSON"]
    command = [str(_TOOL), "environment", *options, venv]
    bill = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    bill["components"] += libraries()
    Path(file).write_text(json.dumps(bill, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
