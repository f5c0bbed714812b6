"""The Debian package: judged by lintian; installed, upgraded and purged by dpkg on a copy of this machine."""

from __future__ import annotations

import hashlib
import os
import re
import ssl
import subprocess
import tarfile
import urllib.request
from pathlib import Path

import pytest

from tests.support.nginx_rtmp import is_listening
from tests.support.pebble import running_pebble
from tests.support.scratch_system import in_scratch_system
from tests.support.separate_environment import making
from tests.support.time_outs import at_most
from tests.support.tools import lacking, need

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
/usr/sbin/millrace user add eva --role administrator --password-stdin <<<'a long password of eva'
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


# What the page's commands need here: the packages of this machine instead of apt, and no systemd.
_AS_ON_THE_PAGE = """
sudo() { "$@"; }
apt() { [ "$1" = update ] || dpkg -i /mnt/millrace.deb &>/mnt/apt.log; }
ask() { curl -s --cacert /mnt/root.pem --resolve "live.example.com:$1:127.0.0.1" "https://live.example.com:$1$2"; }
journalctl() { until ask 443 /healthcheck; do kill -0 $!; sleep 0.2; done; echo; }
systemctl() {
  export MILLRACE_TLS__ACME_DIRECTORY=@DIRECTORY@ MILLRACE_TLS__CA=/mnt/ca.pem
  MILLRACE_CONFIG=/etc/millrace/millrace.toml setpriv --reuid=millrace --regid=millrace --init-groups --no-new-privs \\
    --inh-caps=+net_bind_service --ambient-caps=+net_bind_service /usr/bin/millrace serve &>/mnt/domain.log &
  until [ -s /var/lib/millrace/ports.json ]; do kill -0 $!; sleep 0.1; done
}
rm -rf /etc/millrace /var/lib/millrace
began=$SECONDS
@PAGE@
echo "watch page: $(ask 443 /main-stage-of-nobody/ | grep -c '<html')"
echo "console: $(ask 8000 /healthcheck)"
echo "seconds: $((SECONDS - began))"
kill $!; wait $!
"""


def build(folder: Path) -> Path:
    """Builds the package with Debian's Python, and moves it to the folder."""
    need("dpkg-deb")
    with making("deb"):
        done = subprocess.run(
            ["tools/build-deb"], cwd=ROOT, capture_output=True, text=True, timeout=at_most(600),
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


def test_nothing_in_it_depends_on_its_build(package: Path) -> None:
    """Its bytecode names no times (PEP 552). Its size is that of the files, as `dpkg-gencontrol` counts."""
    size = 0
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(package)], stdout=subprocess.PIPE) as unpacking:
        assert unpacking.stdout is not None
        with tarfile.open(fileobj=unpacking.stdout, mode="r|") as content:
            for item in content:
                size += -(-item.size // 1024) if item.isfile() else 1
                if item.name.endswith(".pyc") and (bytecode := content.extractfile(item)) is not None:
                    assert bytecode.read(8)[4] == 1, f"{item.name} is checked by the time of its source"
    written = subprocess.run(["dpkg-deb", "-f", str(package), "Installed-Size"], capture_output=True, check=True)
    assert int(written.stdout) == size


def test_lintian_finds_no_error(package: Path) -> None:
    need("lintian")
    done = subprocess.run(["lintian", str(package)], capture_output=True, text=True, timeout=at_most(900))
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


def test_the_page_about_domains_leads_to_a_trusted_certificate(package: Path, tmp_path: Path) -> None:
    """The commands of `docs/start/domain.md`, in their order, on a copy of this machine, with a test authority."""
    need("curl", "setpriv")
    if any(is_listening(port) for port in (80, 443, 1935, 1938, 8000, 8444)):
        lacking("a port of the page is taken on this machine")
    page = (ROOT / "docs" / "start" / "domain.md").read_text()
    commands = "".join(re.findall(r"```sh\n(.*?)```", page, re.S))
    (tmp_path / "scratch").mkdir()
    (tmp_path / "pebble").mkdir()
    with running_pebble(tmp_path / "pebble", standard_ports=True) as authority:
        package.parent.chmod(0o755)  # the user of the service reads the certificate there
        (package.parent / "ca.pem").write_bytes(authority.ca.read_bytes())
        trusting = ssl.create_default_context(cafile=str(authority.ca))
        with urllib.request.urlopen(authority.roots, context=trusting, timeout=at_most(20)) as reply:
            (package.parent / "root.pem").write_bytes(reply.read())
        script = _AS_ON_THE_PAGE.replace("@DIRECTORY@", authority.directory).replace("@PAGE@", commands)
        text = in_scratch_system(tmp_path / "scratch", package.parent, script)
    assert re.search(r"^OK$", text, re.M) and "watch page: 1" in text and "console: OK" in text, text
    assert re.search(r"rtmps://live\.example\.com:1938/stream", text), text
    (seconds,) = re.findall(r"^seconds: (\d+)$", text, re.M)
    assert int(seconds) < 600
