"""The certificate of the port of MoQ: that of the other ports, or a self-signed one, whose hash pages get."""

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.adapters.acme.acme_files import AcmeFiles
from gateway.adapters.local.data_folder import replace_file
from gateway.settings.models import TlsSettings

# Browsers accept a hash only of a certificate that is valid for at most 14 days (`serverCertificateHashes`).
_DAYS: Final = 12  # from now; it begins a day earlier
_RENEWED_AFTER: Final = 6 * 86_400.0  # seconds


@dataclass(frozen=True, slots=True)
class PageAccess:
    """What pages need. key: for tickets.

    hashes: of the certificate, SHA-256 in hexadecimal; none: browsers verify it.
    """

    hashes: tuple[str, ...]
    key: bytes


class MoqCertificate:
    """The files `<data>/moq/served.pem`, which the library reads again after each change, and `own.pem`.

    One process of the machine writes them (`refresh`), the others read them (`access`). Both block.
    """

    def __init__(self, data: Path, tls: TlsSettings) -> None:
        self.served = data / "moq" / "served.pem"
        self._own = data / "moq" / "own.pem"
        self._tls = tls
        self._acme = AcmeFiles(data)

    def refresh(self) -> None:
        """Writes the present certificate, with its key. Makes a new self-signed one in time. Raises OSError."""
        self._own.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        own = self._read_own()
        if own is None:
            from gateway.adapters.acme.self_signed import self_signed  # imported here, because it takes 9 MB

            own = self_signed(["localhost"], days=_DAYS)
            replace_file(self._own, own)
        served = self._of_other_ports() or own
        if not self.served.exists() or self.served.read_text("ascii") != served:
            replace_file(self.served, served)

    def access(self) -> PageAccess:
        """Returns what pages need. Raises OSError while there is no file."""
        own = self._own.read_text("ascii")
        key = hashlib.sha256(b"tickets of MoQ\n" + own.encode()).digest()
        return PageAccess((_hash(own),) if own == self.served.read_text("ascii") else (), key)

    def _read_own(self) -> str | None:
        try:
            is_new = time.time() - self._own.stat().st_mtime < _RENEWED_AFTER
            return self._own.read_text("ascii") if is_new else None
        except FileNotFoundError:
            return None

    def _of_other_ports(self) -> str | None:
        """Returns the key and the chain of the other ports; None: they have none yet."""
        tls = self._tls
        if tls.cert is None:
            return self._acme.stored_certificate() if tls.acme else None
        key = tls.key.read_text("ascii") if tls.key is not None else ""
        return key + tls.cert.read_text("ascii")


def _hash(pem: str) -> str:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    certificate = x509.load_pem_x509_certificate(pem[pem.index("-----BEGIN CERTIFICATE") :].encode())
    return hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()
