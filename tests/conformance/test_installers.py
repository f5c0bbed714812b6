"""`uv tool install` and `pipx install` of the built wheel, and the service that its program installs."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.support.separate_environment import separate_environment
from tests.support.time_outs import at_most

ROOT = Path(__file__).resolve().parents[2]
# Both fetch all dependencies from the package index.
pytestmark = pytest.mark.nightly


def must(*command: str, cwd: Path | None = None, **environ: str) -> str:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MILLRACE_", "PYTHON"))}
    done = subprocess.run(command, cwd=cwd, env=kept | environ, capture_output=True, text=True, timeout=at_most(600))
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with wheel and sdist."""
    folder = tmp_path_factory.mktemp("dist")
    must(sys.executable, "-m", "hatchling", "build", "-d", str(folder), cwd=ROOT)
    return folder


def test_the_wheel_can_be_built_from_the_sdist_alone(built: Path, tmp_path: Path) -> None:
    (archive,) = built.glob("millrace_live-*.tar.gz")
    with tarfile.open(archive) as tar:
        names = tar.getnames()
        tar.extractall(tmp_path, filter="data")
    assert not [name for name in names if "/node_modules/" in name or "/.venv" in name or "/build/" in name]
    (source,) = tmp_path.iterdir()
    pip = (sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation")
    must(*pip, "-w", str(tmp_path / "wheel"), str(source))
    (wheel,) = (tmp_path / "wheel").iterdir()
    assert [wheel.name] == [path.name for path in built.glob("*.whl")]


@pytest.mark.parametrize("installer", ["uv", "pipx"])
def test_the_program_of_an_installer_works_and_installs_its_service(
    installer: str, built: Path, tmp_path: Path
) -> None:
    (wheel,) = built.glob("*.whl")
    tools, programs, root = (str(tmp_path / name) for name in ("tools", "bin", "root"))
    bin = separate_environment(ROOT / "tests" / "support" / "installers.lock")
    if installer == "uv":
        folders = {"UV_TOOL_DIR": tools, "UV_TOOL_BIN_DIR": programs, "UV_PYTHON_DOWNLOADS": "never"}
        must(str(bin / "uv"), "tool", "install", "--quiet", "--python", sys.executable, str(wheel), **folders)
    else:
        folders = {"PIPX_HOME": tools, "PIPX_BIN_DIR": programs, "PIPX_DEFAULT_PYTHON": sys.executable}
        must(str(bin / "pipx"), "install", "--quiet", str(wheel), **folders)
    millrace = f"{programs}/millrace"
    assert must(millrace, "--version").startswith("millrace ")
    shown = must(millrace, "install-service", "--root", root, "--dry-run")
    (start,) = [line for line in shown.splitlines() if line.startswith("ExecStart=")]
    program = start.removeprefix("ExecStart=").removesuffix(" serve")
    assert program.startswith(tools) and must(program, "--version").startswith("millrace ")
