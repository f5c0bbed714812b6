"""When the files of a certificate are read again: after a change of owner, mode or clock, and on request."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from structlog.testing import capture_logs

from gateway.adapters.acme.acme_files import AcmeFiles
from gateway.adapters.acme.self_signed import self_signed
from gateway.app.certificates import NodeCertificate
from gateway.lib.certificates import Certificate, CertificateError
from gateway.lib.tasks import Tasks
from gateway.ports.events import Event, Events, EventType
from gateway.settings import load
from tests.support.authority import Authority
from tests.support.clock import Clock
from tests.support.time_outs import at_most

NAME = "live.example.com"
DAY = 86_400.0  # seconds


class Files:
    """A certificate and its key. private: whether the gateway's user may not read the key."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.private = folder, False
        self.authority = Authority(folder)
        self.cert, self.key = self.authority.files(NAME)
        self.emitted: list[Event] = []
        read = Certificate.read

        def guarded(cert: Path, key: Path | None) -> Certificate:
            if self.private:  # root may read every file, and tests may run as root
                raise CertificateError("Permission denied")
            return read(cert, key)

        monkeypatch.setattr(Certificate, "read", guarded)

    def open(self) -> NodeCertificate:
        events = Events()
        events.listen(self.emitted.append)
        settings = load(environ={}, overrides=[f"tls.cert={self.cert}", f"tls.key={self.key}"])
        opened = NodeCertificate.open(settings, events)
        assert opened is not None
        return opened

    def renew(self, days: int = 2) -> None:
        """Replaces the pair. It has another name too, so that it differs from an earlier one of the same second."""
        folder = self.folder / "new"
        folder.mkdir()
        self.authority = Authority(folder)
        pair = self.authority.files(NAME, "new.example.com", days=days)
        for new, old in zip(pair, (self.cert, self.key), strict=True):
            new.replace(old)

    def told(self, type: EventType) -> int:
        return sum(event.type is type for event in self.emitted)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(at_most(20)):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Files:
    monkeypatch.setattr("gateway.app.certificates._WATCH_SECONDS", 0.01)
    return Files(tmp_path, monkeypatch)


async def test_a_pair_is_used_once_the_gateway_may_read_it(files: Files) -> None:
    certificate = files.open()
    async with Tasks("test") as tasks:
        certificate.start(tasks)
        files.private = True
        files.renew()
        await until(lambda: files.told(EventType.CERTIFICATE_FAILED))
        files.private = False
        files.key.chmod(0o640)
        await until(lambda: files.told(EventType.CERTIFICATE_RENEWED))
    assert "new.example.com" in certificate.names.hosts
    assert certificate.status()["error"] is None


async def test_a_request_reads_the_files_also_if_they_look_unchanged(files: Files) -> None:
    certificate = files.open()
    files.renew()
    files.private = True
    await certificate.reload()
    files.private = False
    await certificate.reload()
    assert "new.example.com" in certificate.names.hosts
    await certificate.reload()
    assert files.told(EventType.CERTIFICATE_RENEWED) == 1, "the same certificate is not a new one"


async def test_a_certificate_without_its_issuer_is_logged_once_for_each_file(files: Files) -> None:
    with capture_logs() as logs:
        certificate = files.open()
        assert ["chain" in line["event"] for line in logs] == [True]
        files.renew()
        files.cert.write_bytes(files.cert.read_bytes() + files.authority.file.read_bytes())
        logs.clear()
        await certificate.reload()
    assert [line["event"] for line in logs] == ["certificate loaded"]


@pytest.fixture
def ahead(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock that is ten years ahead."""
    clock = Clock(time.time() + 3650 * 86_400)
    for module in ("gateway.app.certificates", "gateway.lib.certificates"):
        monkeypatch.setattr(f"{module}.time", SimpleNamespace(time=clock))
    return clock


async def test_a_stored_certificate_is_presented_once_a_clock_that_was_ahead_is_set_back(
    tmp_path: Path, files: Files, ahead: Clock
) -> None:
    acme = AcmeFiles(tmp_path)
    acme.prepare()
    acme.save_certificate(self_signed([NAME]))
    certificate = NodeCertificate.open(load(environ={}, overrides=[f"tls.acme={NAME}", f"data={tmp_path}"]), None)
    assert certificate is not None
    async with Tasks("test") as tasks:
        certificate.start(tasks)
        assert not certificate.names
        ahead.now = time.time()
        await until(lambda: certificate.names)
    assert certificate.names.hosts == (NAME,)


async def test_a_pair_that_seemed_to_have_expired_is_used_once_the_clock_is_set_back(
    files: Files, ahead: Clock
) -> None:
    certificate = files.open()
    files.renew()
    await certificate.reload()
    async with Tasks("test") as tasks:
        certificate.start(tasks)
        assert "expired" in str(certificate.status()["error"])
        ahead.now = time.time()
        await until(lambda: files.told(EventType.CERTIFICATE_RENEWED))
    assert "new.example.com" in certificate.names.hosts
    assert files.told(EventType.CERTIFICATE_FAILED) == 1


async def test_a_certificate_that_ends_soon_is_reported_once_a_day_and_at_the_start(files: Files, ahead: Clock) -> None:
    files.renew(days=89)
    now = time.time()
    ahead.now = now + 70 * DAY
    certificate = files.open()
    certificate.report_end()
    assert not files.emitted, "19 days are left"
    ahead.now = now + 79 * DAY
    async with Tasks("test") as tasks:
        certificate.start(tasks)
        await until(lambda: files.emitted)
    for later in (DAY - 1, DAY + 1, 15 * DAY):
        ahead.now = now + 79 * DAY + later
        certificate.report_end()
    first, second, third = (event.data["reason"] for event in files.emitted)
    assert first == second
    assert first.startswith("the certificate expires at 2") and first.endswith(": its file was not renewed")
    assert third == "the certificate has expired: its file was not renewed"


async def test_the_end_of_a_certificate_is_not_reported_after_its_renewal(files: Files, ahead: Clock) -> None:
    ahead.now = time.time() + 1.9 * DAY
    certificate = files.open()
    certificate.report_end()
    assert "was not renewed" in str(certificate.status()["error"])
    files.renew(days=30)
    files.private = True
    await certificate.reload()
    ahead.now += DAY
    certificate.report_end()
    refused = "the certificate has expired: the new certificate is not used: Permission denied"
    assert certificate.status()["error"] == refused
    files.private = False
    await certificate.reload()
    certificate.report_end()
    assert certificate.status()["error"] is None
    assert files.told(EventType.CERTIFICATE_FAILED) == 3
