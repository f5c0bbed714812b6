"""Certificates that no client can verify: for the time before the first real one, and for challenges in a handshake."""

import datetime
from collections.abc import Iterable, Sequence

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def self_signed(
    names: Sequence[str], extensions: Iterable[tuple[x509.ExtensionType, bool]] = (), *, days: int = 30
) -> str:
    """Returns the key and a certificate that no client can verify, as PEM. It is valid from yesterday on.

    extensions: each with its criticality. days: from now to its end.
    """
    key = new_key()
    private = serialization.load_pem_private_key(key.encode(), None)
    assert isinstance(private, ec.EllipticCurvePrivateKey)  # just made
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Millrace")])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder(subject, subject, private.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    certificate = builder.sign(private, hashes.SHA256())
    return key + certificate.public_bytes(serialization.Encoding.PEM).decode()


def new_key() -> str:
    """Returns a private key, as PEM."""
    form, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(serialization.Encoding.PEM, form, plain).decode()
