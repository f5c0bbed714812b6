"""The Debian package: judged by lintian; installed, upgraded and purged by dpkg on a copy of this machine."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.support.scratch_system import in_scratch_system
from tests.support.separate_environment import making
from tests.support.tools import need

ROOT = Path(__file__).resolve().parents[2]
# Two builds take more than a minute. Packaging changes rarely.
pytestmark = [pytest.mark.nightly, pytest.mark.skipif(os.geteuid() != 0, reason="only root installs packages")]

_SCRIPT = """
exec 2>&1
rm -rf /etc/millrace /var/lib/millrace
dpkg -i /mnt/millrace.deb &>/mnt/first.log
stat -c '%U %G %a' /var/lib/millrace /etc/millrace/millrace.toml
systemctl is-enabled millrace.service
cd /tmp
millrace --version
# Root's command: the service's user and settings.
/usr/sbin/millrace user add eva --password-stdin <<<'a long password of eva'
stat -c '%U' /var/lib/millrace/console.db
# As the unit starts it: port 80 by capability, no way to more rights.
MILLRACE_CONFIG=/etc/millrace/millrace.toml MILLRACE_ADMIN__TOKEN=a-token-of-this-test setpriv --reuid=millrace \\
  --regid=millrace --init-groups --no-new-privs --inh-caps=+net_bind_service --ambient-caps=+net_bind_service \\
  /usr/bin/millrace serve --set rtmp.port=0 --set http.port=80 --set ws.port=0 --set admin.port=0 --set webrtc.port=0 \\
  &>/mnt/serve.log &
until [ -s /var/lib/millrace/ports.json ]; do kill -0 $! || { cat /mnt/serve.log; exit 1; }; sleep 0.1; done
curl -s http://127.0.0.1:80/healthcheck; echo
ps -o user= -p $(tr -d ' ' </var/lib/millrace/run/lock)
/usr/sbin/millrace backup /mnt/all.tar
kill $!; wait $!
sed -i 's/^# Settings/# Mine/' /etc/millrace/millrace.toml
dpkg -i /mnt/millrace.deb &>/mnt/second.log
grep -c '^# Mine' /etc/millrace/millrace.toml
dpkg -r millrace &>/mnt/remove.log
ls /var/lib/millrace/console.db /etc/millrace/millrace.toml
! command -v /usr/bin/millrace
dpkg -i /mnt/millrace.deb &>/mnt/third.log
/usr/sbin/millrace user list | cut -d' ' -f1
dpkg -P millrace &>/mnt/purge.log
! ls -d /var/lib/millrace /etc/millrace /opt/millrace
echo purged
"""


def build(folder: Path) -> Path:
    """Builds the package with Debian's Python, and moves it to the folder."""
    need("dpkg-deb")
    with making("deb"):
        done = subprocess.run(
            ["tools/build-deb"], cwd=ROOT, capture_output=True, text=True, timeout=600,
            env={**os.environ, "SOURCE_DATE_EPOCH": "1800000000", "DEB_MAINTAINER": "Millrace <us@lists.invalid>"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        (built,) = (ROOT / "build" / "dist").glob("millrace_*.deb")
        return built.replace(folder / "millrace.deb")


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("deb"))


def test_equal_sources_give_an_equal_package(package: Path, tmp_path: Path) -> None:
    assert hashlib.sha256(build(tmp_path).read_bytes()).digest() == hashlib.sha256(package.read_bytes()).digest()


def test_lintian_finds_no_error(package: Path) -> None:
    need("lintian")
    done = subprocess.run(["lintian", str(package)], capture_output=True, text=True, timeout=900)
    assert [line for line in done.stdout.splitlines() if line.startswith(("E:", "W:"))] == [], done.stdout


def test_dpkg_installs_upgrades_removes_and_purges_it(package: Path, tmp_path: Path) -> None:
    need("dpkg", "curl", "setpriv")
    (tmp_path / "scratch").mkdir()
    lines = in_scratch_system(tmp_path / "scratch", package.parent, _SCRIPT).splitlines()
    text = "\n".join(lines)
    assert lines[:3] == ["millrace millrace 750", "root millrace 640", "enabled"], text
    assert re.fullmatch(r"millrace \d+\.\d+\.\d+\S*", lines[3]), text
    assert lines[4:8] == ["created eva", "millrace", "OK", "millrace"], text
    assert "saved: " in lines[8] and (package.parent / "all.tar").stat().st_uid == 0
    assert lines[9] == "1", "the upgrade kept the changed settings"
    assert "/var/lib/millrace/console.db" in lines and "eva" in lines and lines[-1] == "purged", text
