"""The certificate of a node: from files that are watched, or from an authority by ACME."""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import structlog

from gateway import __version__
from gateway.adapters.acme.acme_files import AcmeFiles
from gateway.adapters.acme.challenge_answers import ChallengeAnswers
from gateway.adapters.acme.renewal import CertificateRenewal, Failure, Order
from gateway.lib.certificates import Certificate, CertificateError, CertificateNames, ServerCertificate, outgoing_tls
from gateway.lib.metric_table import CERTIFICATE_EXPIRY, MetricSample
from gateway.lib.rfc3339 import rfc3339
from gateway.lib.tasks import Tasks, run_from_thread
from gateway.ports.events import Event, Events, EventType
from gateway.ports.stores import ConsoleStore, StoreChanges
from gateway.settings import Settings

if TYPE_CHECKING:
    from gateway.adapters.acme.shared_entries import SharedEntries  # 9 MB, imported where it is used

log = structlog.get_logger(__name__)

_WATCH_SECONDS: Final = 2.0
_DAY: Final = 86_400.0
_REPORTED_BEFORE_END: Final = 14 * _DAY  # seconds; certificates of a short life: its last quarter

# Device, inode, times and size of each file; () if one is missing. A new owner or mode changes only `st_ctime_ns`.
_Stamp = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class _Files:
    """The files of the certificate. key: None if it is in the file of the certificate."""

    cert: Path
    key: Path | None

    def read(self) -> Certificate:
        return Certificate.read(self.cert, self.key)

    def stamp(self) -> _Stamp:
        try:
            found = [path.stat() for path in (self.cert, self.key) if path is not None]
        except OSError:
            return ()
        return tuple((of.st_dev, of.st_ino, of.st_mtime_ns, of.st_ctime_ns, of.st_size) for of in found)


class NodeCertificate:
    """The certificate of all ports over TLS of this process. It is replaced when its files change.

    server: for the listeners. challenges: answers an authority; None without ACME.
    events: None in processes that do not report: one of several on the same ports does.
    """

    def __init__(
        self, files: _Files, server: ServerCertificate, events: Events | None, challenges: ChallengeAnswers | None
    ) -> None:
        self.server = server
        self.challenges = challenges
        self._files, self._events = files, events
        self._loaded: _Stamp = files.stamp()
        self._seen: _Stamp = self._loaded
        self._expired_end = 0.0  # of the certificate in the files, if it is not used because it has expired
        self._error = ""
        self._refusal = ""  # why the files are not used
        self._reported = 0.0  # when the end was last reported
        self._checking = asyncio.Lock()
        self._renewal: CertificateRenewal | None = None
        self._check_chain()

    @classmethod
    def open(cls, settings: Settings, events: Events | None) -> "NodeCertificate | None":
        """Returns None if the settings have no certificate. Raises CertificateError, StoreUnusable.

        With ACME and without a stored certificate, the ports begin with one that clients cannot verify, because an
        authority may check them.
        """
        tls = settings.tls
        if tls.cert is not None:
            files = _Files(tls.cert, tls.key)
            return cls(files, ServerCertificate(files.read()), events, None)
        if not tls.acme:
            return None
        acme_files = AcmeFiles(settings.data)
        acme_files.prepare()
        files = _Files(acme_files.certificate, None)
        server, expired_end = _first(files, acme_files, tls.acme)
        node = cls(files, server, events, ChallengeAnswers(acme_files, tls.acme))
        node._expired_end = expired_end
        if events is not None:
            node._renewal = node._make_renewal(settings, acme_files, None)
        return node

    def share(self, settings: Settings, store: ConsoleStore, changes: StoreChanges | None) -> None:
        """Shares a certificate of ACME with all nodes that have this store. Call it before `start`.

        A store on this machine, and a node without `cluster.secret`, share nothing.
        """
        if self.challenges is None or not is_shared(settings):
            return
        secret = settings.cluster.secret.get_secret_value()
        if not secret:
            if self._events is not None:
                log.warning("the certificate is not shared with other machines: cluster.secret is not set")
            return
        from gateway.adapters.acme.shared_entries import CERTIFICATE, PendingChallenges, SharedEntries

        shared = SharedEntries(store, secret, _order(settings))
        self.challenges.shared = PendingChallenges(shared)
        if self._renewal is not None:
            self._renewal = self._make_renewal(settings, AcmeFiles(settings.data), shared)
        if changes is not None:
            own = f"{CERTIFICATE}/{shared.id}"
            changes.listen("people", lambda key: shared.changed.set() if key == own else None)

    def start(self, tasks: Tasks) -> None:
        tasks.keep(self._watch, "certificate files")
        if self._renewal is not None:
            tasks.keep(self._renewal.run, "certificate renewal")

    @property
    def names(self) -> CertificateNames:
        return self.server.names

    def status(self) -> dict[str, Any]:
        """Returns the certificate for operators. expires: None before the first one."""
        expires = None if self.server.temporary else rfc3339(self.server.current.ends, "seconds")
        return {
            "names": list(self.server.current.names.hosts),
            "expires": expires,
            "acme": self.challenges is not None,
            "error": self._error or None,
        }

    def samples(self) -> Iterator[MetricSample]:
        left = 0.0 if self.server.temporary else self.server.current.ends - time.time()
        yield MetricSample(CERTIFICATE_EXPIRY, max(0.0, left))

    async def reload(self) -> None:
        """Reads the files again. A pair that cannot be used changes nothing and is logged."""
        async with self._checking:
            self._loaded = self._seen = await asyncio.to_thread(self._files.stamp)
            before, self._expired_end = self.server.current, 0.0
            try:
                found = await asyncio.to_thread(self._files.read)
                if found.ends <= time.time():
                    self._expired_end = found.ends
                self.server.replace(found)
            except CertificateError as error:
                self._refusal = f"the new certificate is not used: {error}"
                self._failed(self._refusal)
                return
        self._error, self._refusal, self._reported = "", "", 0.0
        current = self.server.current
        names, expires = list(current.names.hosts), rfc3339(current.ends, "seconds")
        log.info("certificate loaded", names=names, expires=expires)
        self._check_chain()
        if (current.names, current.begins, current.ends) != (before.names, before.begins, before.ends):
            self._emit(EventType.CERTIFICATE_RENEWED, {"names": names, "expires": expires})

    def report_end(self) -> None:
        """Reports once a day that a certificate of files ends soon or has ended. With ACME, the renewal reports."""
        now, current = time.time(), self.server.current
        soon = current.ends - min(_REPORTED_BEFORE_END, (current.ends - current.begins) / 4)
        if self.challenges is not None or now < soon or self._reported <= now < self._reported + _DAY:
            return
        self._reported = now
        state = "has expired" if current.ends <= now else f"expires at {rfc3339(current.ends, 'seconds')}"
        self._failed(f"the certificate {state}: {self._refusal or 'its file was not renewed'}")

    def _check_chain(self) -> None:
        if self._events is not None and not self.server.current.complete:
            log.warning("the certificate has no complete chain: many clients refuse it; use fullchain.pem")

    async def _watch(self) -> None:
        while True:
            self.report_end()
            await asyncio.sleep(_WATCH_SECONDS)
            stamp = await asyncio.to_thread(self._files.stamp)
            # Certificate and key are written one after the other, so they must have stayed equal between two looks.
            changed = stamp == self._seen and stamp != self._loaded
            if changed or self._expired_end > time.time():  # the second: the clock was ahead
                await self.reload()
            self._seen = stamp

    def _make_renewal(self, settings: Settings, files: AcmeFiles, shared: "SharedEntries | None") -> CertificateRenewal:
        tls, outgoing = settings.tls, outgoing_tls(settings.tls.ca)

        def obtain(names: Any, kind: str) -> str:
            # Imported in the thread, because it takes half a second.
            from gateway.adapters.acme.authority import Authority

            agent = f"Millrace/{__version__}"
            return Authority(tls.acme_directory, tls.acme_email, files, outgoing, agent).obtain(names, kind)

        if shared is None:
            return CertificateRenewal(_order(settings), files, obtain, self.reload, self._renewal_failed)
        from gateway.adapters.acme.shared_renewal import SharedRenewal

        loop = asyncio.get_running_loop()
        files.publish = lambda found: run_from_thread(shared.publish(found), loop)
        return SharedRenewal(shared, _order(settings), files, obtain, self.reload, self._renewal_failed)

    def _renewal_failed(self, failure: Failure) -> None:
        self._failed(failure.reason, retry=rfc3339(failure.retry, "seconds"))

    def _failed(self, reason: str, **data: str) -> None:
        self._error = reason
        if self._events is not None:
            log.error("certificate failed", reason=reason, **data)
            self._emit(EventType.CERTIFICATE_FAILED, {"reason": reason, **data})

    def _emit(self, type: EventType, data: dict[str, Any]) -> None:
        if self._events is not None:
            self._events.emit(Event(type, time.time(), "", data))


def is_shared(settings: Settings) -> bool:
    """Whether other machines may have the same console store and certificate."""
    return bool(settings.tls.acme) and not settings.admin.store.startswith("sqlite:")


def _order(settings: Settings) -> Order:
    return Order(tuple(settings.tls.acme), settings.tls.acme_directory)


def _first(files: _Files, acme: AcmeFiles, names: tuple[str, ...]) -> tuple[ServerCertificate, float]:
    """Returns the stored certificate, or a temporary one if there is none that can be used.

    Also returns the end of the stored one if it has expired, else 0.0.
    """
    expired_end = 0.0
    try:
        stored = files.read()
        if stored.ends > time.time():
            return ServerCertificate(stored), 0.0
        expired_end = stored.ends
    except CertificateError:
        log.info("no certificate is stored yet: clients cannot verify the ports over TLS", names=list(names))
    from gateway.adapters.acme.self_signed import self_signed  # imported here, because it takes 9 MB

    with acme.temporary(self_signed(names)) as path:
        return ServerCertificate(Certificate.read(path, None), temporary=True), expired_end
