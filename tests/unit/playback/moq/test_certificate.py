"""The certificate of the port of MoQ: self-signed and renewed in time, or that of the other ports."""

import os
import time
from pathlib import Path

from cryptography import x509

from gateway.adapters.acme.self_signed import self_signed
from gateway.playback.moq.certificate import MoqCertificate
from gateway.settings import load


def certificate(folder: Path, **variables: str) -> MoqCertificate:
    settings = load(environ={"MILLRACE_DATA": str(folder), **variables})
    return MoqCertificate(settings.data, settings.tls)


def test_a_self_signed_certificate_has_a_hash_that_browsers_accept(tmp_path: Path):
    own = certificate(tmp_path)
    own.refresh()
    (found,) = own.access().hashes
    pem = own.served.read_bytes()
    read = x509.load_pem_x509_certificate(pem[pem.index(b"-----BEGIN CERTIFICATE") :])
    assert len(found) == 64 and (read.not_valid_after_utc - read.not_valid_before_utc).days <= 14
    assert own.served.stat().st_mode & 0o077 == 0
    own.refresh()
    assert own.access().hashes == (found,), "it is kept"
    os.utime(tmp_path / "moq" / "own.pem", times=(time.time() - 7 * 86_400,) * 2)
    own.refresh()
    assert own.access().hashes != (found,), "it is renewed"


def test_the_certificate_of_the_other_ports_has_no_hash(tmp_path: Path):
    pem = self_signed(["live.example.com"])
    split = pem.index("-----BEGIN CERTIFICATE")
    (tmp_path / "cert.pem").write_text(pem[split:])
    (tmp_path / "key.pem").write_text(pem[:split])
    files = {"MILLRACE_TLS__CERT": f"{tmp_path}/cert.pem", "MILLRACE_TLS__KEY": f"{tmp_path}/key.pem"}
    other = certificate(tmp_path, **files)
    other.refresh()
    assert other.served.read_text() == pem
    assert other.access().hashes == ()
    (tmp_path / "cert.pem").write_text(self_signed(["live.example.com"]))
    (tmp_path / "key.pem").write_text("")
    other.refresh()
    assert other.served.read_text() != pem, "a renewed certificate is taken"
