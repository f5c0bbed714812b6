"""`millrace install-service` below a root of its own: systemd's own programs judge the unit and make the user."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.support.command_line import run
from tests.support.time_outs import at_most
from tests.support.tools import need

UNIT = "etc/systemd/system/millrace.service"
SETTINGS = "etc/millrace/millrace.toml"

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root makes users")


def install(*arguments: str) -> subprocess.CompletedProcess[str]:
    return run("install-service", *arguments)


def done(root: Path, *arguments: str) -> str:
    need("systemd-sysusers", "systemd-tmpfiles", "systemd-analyze")
    (root / "etc").mkdir(exist_ok=True)
    found = install("--root", str(root), *arguments)
    assert (found.returncode, found.stderr) == (0, ""), found
    return found.stdout


def analyze(*arguments: str) -> str:
    found = subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, timeout=at_most(60))
    assert found.returncode == 0, found.stderr
    return found.stdout + found.stderr


def test_systemd_accepts_the_unit_and_finds_little_exposure(tmp_path: Path) -> None:
    done(tmp_path)
    unit = (tmp_path / UNIT).read_text()
    program = re.search(r"^ExecStart=(\S+) serve$", unit, re.M)
    assert program and Path(program[1]).name == "millrace"
    # The installed program of this environment, which need not be one of root's PATH.
    (tmp_path / UNIT).write_text(unit.replace(program[1], "/bin/true"))
    assert analyze("verify", "--man=no", "--recursive-errors=no", str(tmp_path / UNIT)) == ""
    exposure = re.search(
        r"exposure level for \S+ ([\d.]+)", analyze("security", "--offline=true", str(tmp_path / UNIT))
    )
    assert exposure and float(exposure[1]) < 2.5
    assert "AmbientCapabilities=CAP_NET_BIND_SERVICE" in unit


def test_the_service_survives_a_worker_that_the_kernel_ends(tmp_path: Path) -> None:
    """systemd.service(5): by default, the unit is stopped when the kernel kills one of its processes for its memory."""
    done(tmp_path)
    assert "\nOOMPolicy=continue\n" in (tmp_path / UNIT).read_text()


def test_the_service_has_a_user_and_private_folders(tmp_path: Path) -> None:
    done(tmp_path, "--user", "streamer", "--data", "/var/lib/shows/live")
    (entry,) = [line.split(":") for line in (tmp_path / "etc/passwd").read_text().splitlines() if "streamer" in line]
    state = (tmp_path / "var/lib/shows/live").stat()
    assert (str(state.st_uid), state.st_mode & 0o777) == (entry[2], 0o750)
    assert entry[6].endswith("nologin")
    settings = tmp_path / SETTINGS
    assert (settings.stat().st_mode & 0o777, settings.stat().st_gid) == (0o640, int(entry[3]))
    assert 'data = "/var/lib/shows/live"' in settings.read_text()
    assert "StateDirectory=shows/live\n" in (tmp_path / UNIT).read_text()
    read = run("check-config", "--config", str(settings))
    assert read.returncode == 0 and "/var/lib/shows/live" in read.stdout


def test_an_upgrade_replaces_the_unit_and_keeps_the_settings(tmp_path: Path) -> None:
    done(tmp_path)
    assert "wrote" not in done(tmp_path)
    (tmp_path / SETTINGS).write_text('data = "/var/lib/millrace"\n[log]\nlevel = "debug"\n')
    (tmp_path / UNIT).write_text("[Service]\n# of an older version\n")
    assert done(tmp_path).count("wrote") == 1
    assert "ExecStart=" in (tmp_path / UNIT).read_text()
    assert "debug" in (tmp_path / SETTINGS).read_text()


def test_removal_keeps_data_and_settings_unless_they_are_purged(tmp_path: Path) -> None:
    done(tmp_path)
    data = tmp_path / "var/lib/millrace"
    (data / "signing.secret").write_text("a secret")
    done(tmp_path, "--remove")
    assert not (tmp_path / UNIT).exists() and not (tmp_path / "usr/local/sbin/millrace").exists()
    assert (data / "signing.secret").exists() and (tmp_path / SETTINGS).exists()
    done(tmp_path)
    done(tmp_path, "--remove", "--purge")
    assert not data.exists() and not (tmp_path / SETTINGS).exists()
    assert "millrace" not in (tmp_path / "etc/passwd").read_text()


def test_a_purge_does_not_delete_another_folder(tmp_path: Path) -> None:
    done(tmp_path, "--data", "/srv")
    (tmp_path / "srv/photo.jpg").write_text("of somebody")
    found = install("--root", str(tmp_path), "--data", "/srv", "--remove", "--purge")
    assert found.returncode == 1 and "no data folder of Millrace" in found.stderr
    assert (tmp_path / "srv/photo.jpg").exists()


@pytest.mark.parametrize("data", ["/home", "/root", "/tmp/live", "/srv/My Media", "/srv/100%", '/srv/"live"'])
def test_a_data_folder_that_the_unit_cannot_name_or_reach_is_refused(data: str) -> None:
    found = install("--dry-run", "--data", data)
    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr.startswith(f"millrace: --data {data}: expected letters, digits and ._+@-/, outside of /home/")


def test_a_dry_run_prints_all_and_writes_nothing(tmp_path: Path) -> None:
    text = install("--root", str(tmp_path), "--dry-run").stdout
    assert all(part in text for part in ("[Service]", SETTINGS, "# systemd-sysusers", "setpriv"))
    assert list(tmp_path.iterdir()) == []


def test_roots_command_has_the_settings_the_user_and_the_home_of_the_service(tmp_path: Path) -> None:
    need("setpriv")
    done(tmp_path, "--user", "nobody")
    script = tmp_path / "usr/local/sbin/millrace"
    program = Path("/bin/sh -c 'echo $(id -un) $HOME $MILLRACE_CONFIG' --")
    script.write_text(re.sub(r"\S+/bin/millrace", str(program), script.read_text()))
    assert "systemd" not in script.read_text()

    def says(*arguments: str) -> str:
        environ = {**os.environ, "HOME": "/root"}
        done = subprocess.run([script, *arguments], env=environ, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    group = subprocess.run(["id", "-gn", "nobody"], capture_output=True, text=True, check=True).stdout.strip()
    script.write_text(script.read_text().replace("--regid=nobody", f"--regid={group}"))
    assert says("channel", "list") == "nobody /var/lib/millrace /etc/millrace/millrace.toml"
    assert says("backup", "all.tar") == "root /root /etc/millrace/millrace.toml"


@pytest.mark.skipif(Path("/run/systemd/system").exists(), reason="it would be installed on this machine")
def test_without_systemd_the_error_is_one_line() -> None:
    found = install()
    assert (found.returncode, found.stdout) == (1, "")
    assert found.stderr == "millrace: systemd does not run here; in a container, start `millrace serve`\n"
