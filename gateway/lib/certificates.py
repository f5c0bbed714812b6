"""The certificate of the ports over TLS: it is read from PEM files, checked, and replaced while connections go on."""

from __future__ import annotations

import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from gateway.lib.sockets import ListenError

if TYPE_CHECKING:
    from cryptography import x509  # 9 MB, imported where a certificate is read

HTTP2: Final = "h2"  # its name in the handshake (RFC 9113 §3.1)
_MAX_BYTES: Final = 1_000_000  # of a file; a chain has some kilobytes


class CertificateError(ListenError):
    """A certificate cannot be used. The message is one line."""


@dataclass(frozen=True, slots=True)
class CertificateNames:
    """The hosts for which a certificate is valid; none: there is no certificate that clients can verify.

    hosts: names in lower case, also *.example.com, and addresses.
    """

    hosts: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.hosts)

    def cover(self, host: str) -> bool:
        """Whether clients accept the certificate for a host; IPv6 without brackets."""
        host = host.lower().rstrip(".")
        # RFC 6125 §6.4.3: "*" stands for the whole left-most label.
        return host in self.hosts or f"*.{host.partition('.')[2]}" in self.hosts

    def host_for(self, host: str) -> str:
        """Returns `host` if it is covered, else the first name of the certificate."""
        if self.cover(host):
            return host
        return next((name for name in self.hosts if "*" not in name), host)


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate with its key, ready for servers.

    names: of the server. begins, ends: of its validity, seconds since 1970; `ends` is the first end in the chain.
    complete: as `is_complete`. context: the server context that presents it. web_context: it offers HTTP/2 too.
    """

    names: CertificateNames
    begins: float
    ends: float
    complete: bool
    context: ssl.SSLContext
    web_context: ssl.SSLContext

    @classmethod
    def read(cls, cert: Path, key: Path | None) -> Certificate:
        """Reads PEM files. key: None if it is in the file of the certificate. Raises CertificateError."""
        for option, path in (("tls.cert", cert), ("tls.key", key)):
            if path is not None:
                _read(option, path)
        from cryptography import x509

        context, web_context = server_context(), _web_context()
        try:
            for loading in (context, web_context):
                # A key with a passphrase must not block the start with a prompt on the terminal.
                loading.load_cert_chain(cert, key, password=lambda: "")
        except (ssl.SSLError, OSError) as error:
            reason = getattr(error, "reason", None) or "not a usable certificate"
            raise CertificateError(f"tls.cert: {cert}: {str(reason).replace('_', ' ').lower()}") from None
        try:
            chain = x509.load_pem_x509_certificates(_read("tls.cert", cert))
        except ValueError:
            raise CertificateError(f"tls.cert: {cert}: not a PEM certificate") from None
        return cls(_names(chain[0]), *_validity(chain), is_complete(chain), context, web_context)


def is_complete(chain: Sequence[x509.Certificate]) -> bool:
    """Whether each certificate is issued by the next one in the file; a single one must be self-signed.

    Browsers on a desktop find an absent intermediate certificate themselves. Phones, OBS, ffmpeg and curl do not. A
    certificate that a private authority issues directly is not distinguished from it.
    """
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

    try:
        for certificate, issuer in zip(chain, chain[1:] or chain, strict=False):
            certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def server_context() -> ssl.SSLContext:
    """Returns a context for servers without a certificate."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _web_context() -> ssl.SSLContext:
    """Returns a context for servers that speak HTTP/2 and HTTP/1.1 (RFC 7301)."""
    context = server_context()
    context.set_alpn_protocols([HTTP2, "http/1.1"])
    return context


def outgoing_tls(ca: Path | None) -> ssl.SSLContext | None:
    """Returns the TLS context of outgoing connections; None: only the system's certificate authorities are trusted.

    Raises ListenError for an unusable file.
    """
    if ca is None:
        return None
    context = ssl.create_default_context()
    try:
        context.load_verify_locations(ca)
    except (ssl.SSLError, OSError) as error:
        raise ListenError(f"tls.ca: {ca}: {error.strerror or 'no certificates in PEM form'}") from None
    return context


def _read(option: str, path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise CertificateError(f"{option}: {path}: {error.strerror or error}") from None
    if len(data) > _MAX_BYTES:
        raise CertificateError(f"{option}: {path}: too large for PEM")
    return data


def _validity(chain: Sequence[x509.Certificate]) -> tuple[float, float]:
    ends = min(certificate.not_valid_after_utc for certificate in chain)
    return chain[0].not_valid_before_utc.timestamp(), ends.timestamp()


def _names(certificate: x509.Certificate) -> CertificateNames:
    """Returns the names of the extension only: clients ignore the subject, RFC 6125 §6.4.4."""
    from cryptography import x509

    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return CertificateNames()
    names = [name.lower() for name in found.get_values_for_type(x509.DNSName)]
    return CertificateNames((*names, *map(str, found.get_values_for_type(x509.IPAddress))))


class ServerCertificate:
    """The certificate that all ports over TLS of this process present.

    `context` is for the listeners and never changes; `web_context` is for those that also speak HTTP/2. Each new
    connection gets the present certificate; open ones keep theirs. A context is not loaded again, because it would then
    also keep an earlier certificate of another key type.
    """

    def __init__(self, certificate: Certificate, *, temporary: bool = False) -> None:
        """Presents a certificate. temporary: clients cannot verify it."""
        self.context, self.web_context = server_context(), _web_context()
        self.context.sni_callback = self._choose
        self.web_context.sni_callback = self._choose
        self._current = certificate
        self.temporary = temporary

    @property
    def names(self) -> CertificateNames:
        """The hosts in addresses for clients; none with a temporary certificate."""
        return CertificateNames() if self.temporary else self._current.names

    @property
    def current(self) -> Certificate:
        return self._current

    def replace(self, certificate: Certificate) -> None:
        """Presents another certificate from now on. Raises CertificateError if it has expired."""
        if certificate.ends <= time.time():
            raise CertificateError("the certificate has expired")
        self._current, self.temporary = certificate, False

    def _choose(self, connection: Any, name: str | None, context: ssl.SSLContext) -> None:
        """Called in each handshake, also of clients that name no server."""
        current = self._current
        connection.context = current.web_context if context is self.web_context else current.context
