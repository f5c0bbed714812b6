"""The certificate of the ports over TLS: what is read, and what new and old connections get."""

import datetime
import ssl
import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from gateway.lib.certificates import Certificate, CertificateError, CertificateNames, ServerCertificate

DAY = datetime.timedelta(days=1)


def files(folder: Path, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, days: int = 2) -> Path:
    subject = x509.Name([])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - 9 * DAY).not_valid_after(now + days * DAY)
    names = x509.SubjectAlternativeName([x509.DNSName("Live.example.com"), x509.DNSName("*.example.net")])
    certificate = builder.add_extension(names, False).sign(key, hashes.SHA256())
    pem, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    path = folder / f"{certificate.serial_number}.pem"
    path.write_bytes(certificate.public_bytes(pem) + key.private_bytes(pem, form, serialization.NoEncryption()))
    return path


class Connection:
    """A client and a server that talk in memory."""

    def __init__(self, context: ssl.SSLContext, name: str | None, version: ssl.TLSVersion) -> None:
        to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = ssl._create_unverified_context()
        client.maximum_version = version
        self.server = context.wrap_bio(to_server, to_client, server_side=True)
        self.client = client.wrap_bio(to_client, to_server, server_hostname=name)
        for side in (self.client, self.server) * 3:
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue

    def seen(self) -> bytes | None:
        return self.client.getpeercert(binary_form=True)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("name", ["live.example.com", "unknown.example.org", None])
def test_new_connections_get_the_new_certificate_also_with_another_kind_of_key(
    tmp_path: Path, name: str | None, version: ssl.TLSVersion
) -> None:
    old = files(tmp_path, rsa.generate_private_key(65537, 2048))
    new = files(tmp_path, ec.generate_private_key(ec.SECP256R1()))
    server = ServerCertificate(Certificate.read(old, None))
    first = Connection(server.context, name, version)
    server.replace(Certificate.read(new, None))
    second = Connection(server.context, name, version)
    der = [
        x509.load_pem_x509_certificate(path.read_bytes()).public_bytes(serialization.Encoding.DER)
        for path in (old, new)
    ]
    assert [first.seen(), second.seen()] == der
    first.server.write(b"still here")
    assert first.client.read() == b"still here"


def test_a_certificate_that_has_expired_replaces_no_other(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    server = ServerCertificate(Certificate.read(files(tmp_path, key), None))
    before = server.current
    with pytest.raises(CertificateError, match="expired"):
        server.replace(Certificate.read(files(tmp_path, key, days=-1), None))
    assert server.current is before
    assert before.begins < time.time() < before.ends


def test_a_temporary_certificate_has_no_names_for_addresses(tmp_path: Path) -> None:
    certificate = Certificate.read(files(tmp_path, ec.generate_private_key(ec.SECP256R1())), None)
    server = ServerCertificate(certificate, temporary=True)
    assert not server.names
    server.replace(certificate)
    assert server.names == CertificateNames(("live.example.com", "*.example.net"))


@pytest.mark.parametrize(
    ("host", "covered"),
    [
        ("live.example.com", True),
        ("LIVE.example.com.", True),
        ("eu.example.net", True),
        ("example.net", False),
        ("", False),
    ],
)
def test_names_cover_hosts_as_clients_compare_them(host: str, covered: bool) -> None:
    assert CertificateNames(("live.example.com", "*.example.net")).cover(host) is covered
