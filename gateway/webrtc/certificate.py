"""The self-signed certificate of a process for DTLS, and fingerprints of certificates (RFC 8122)."""

import hmac
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_VALID: Final = timedelta(days=3650)  # nobody checks it: the fingerprint in the session description identifies us
_SKEW: Final = timedelta(days=1)  # for clients with a wrong clock
_HASHES: Final = {"sha-256": hashes.SHA256(), "sha-384": hashes.SHA384(), "sha-512": hashes.SHA512()}


@dataclass(frozen=True, slots=True)
class DtlsCertificate:
    """A certificate with its private key. fingerprint: its SHA-256, such as "AB:CD:…"."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate
    fingerprint: str


def make_certificate() -> DtlsCertificate:
    """Returns a new certificate with a P-256 key (RFC 8827 §6.5)."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "WebRTC")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + _VALID)
        .sign(key, hashes.SHA256())
    )
    return DtlsCertificate(key, certificate, fingerprint_of(certificate, "sha-256"))


def fingerprint_of(certificate: x509.Certificate, algorithm: str) -> str:
    """Returns a fingerprint such as "AB:CD:…". Raises KeyError if the algorithm is not supported."""
    return certificate.fingerprint(_HASHES[algorithm]).hex(":").upper()


def matches(certificate: x509.Certificate, fingerprint: tuple[str, str]) -> bool:
    """Whether a fingerprint (algorithm, value) is of this certificate. An unknown or weak algorithm never matches."""
    algorithm, value = fingerprint
    if algorithm.lower() not in _HASHES:
        return False
    return hmac.compare_digest(fingerprint_of(certificate, algorithm.lower()).encode(), value.upper().encode())
