"""DTLS: records in datagrams, alerts without OpenSSL's session, fingerprints, and hostile handshakes."""

from __future__ import annotations

import os
import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.webrtc.certificate import fingerprint_of, make_certificate, matches
from gateway.webrtc.dtls import DtlsError, DtlsSession, datagrams_of, make_context, next_sequence
from gateway.webrtc.dtls_alerts import SUITES, DtlsAlerts, prf

CERTIFICATE = make_certificate()
CONTEXT = make_context(CERTIFICATE)


def record(size: int, epoch: int = 0, sequence: int = 0) -> bytes:
    return struct.pack(">BHHHIH", 22, 0xFEFD, epoch, 0, sequence, size) + bytes(size)


def test_records_share_datagrams_up_to_the_limit() -> None:
    records = [record(500), record(500), record(300), record(1500), record(1)]
    found = datagrams_of(b"".join(records), 1200)
    assert [len(each) for each in found] == [1026, 313, 1513, 14]
    assert b"".join(found) == b"".join(records)


@given(st.binary(max_size=3000), st.integers(1, 2000))
def test_datagrams_lose_no_byte(data: bytes, limit: int) -> None:
    assert b"".join(datagrams_of(data, limit)) == data


def test_the_next_sequence_number_is_that_of_epoch_1() -> None:
    assert next_sequence(record(5, 0, 900)) == 0
    assert next_sequence(record(5, 0, 900) + record(9, 1, 4) + record(9, 1, 3)) == 5


def test_the_prf_has_the_known_values() -> None:
    # From the TLS working group's list, "TLS 1.2 test vectors" for P_SHA256.
    secret, seed = bytes.fromhex("9bbe436ba940f017b17652849a71db35"), bytes.fromhex("a0ba9f936cda311827a6f796ffd5198c")
    expected = (
        "e3f229ba727be17b8d122620557cd453c2aab21d07c3d495329b52d4e61edb5a6b301791e90d35c9c9a46b4e14baf9af0fa022f7077def17"
        "abfd3797c0564bab4fbc91666e9def9b97fce34f796789baa48082d122ee42c5a72e5a5110fff70187347b66"
    )
    assert prf("sha256", secret, b"test label" + seed, 100).hex() == expected


@pytest.mark.parametrize("cipher", SUITES)
def test_the_other_side_reads_an_alert_and_ignores_forged_ones(cipher: str) -> None:
    master, randoms = os.urandom(48), os.urandom(64)
    ours = DtlsAlerts(cipher, master, (randoms[:32], randoms[32:]), 5)
    theirs = DtlsAlerts(cipher, master, (randoms[:32], randoms[32:]), 5, client=True)
    notify = ours.close_notify()
    assert theirs.ends(notify)
    assert int.from_bytes(notify[5:11], "big") == 5
    assert int.from_bytes(ours.close_notify()[5:11], "big") == 6
    assert not ours.ends(notify), "the keys of the other direction"
    for at in range(len(notify)):
        if at not in (1, 2):  # the version of the record is not used
            assert not theirs.ends(notify[:at] + bytes((notify[at] ^ 1,)) + notify[at + 1 :])
        assert not theirs.ends(notify[:at])


def test_each_supported_fingerprint_matches_its_certificate_only() -> None:
    other = make_certificate()
    for algorithm in ("sha-256", "sha-384", "SHA-512"):
        value = fingerprint_of(CERTIFICATE.certificate, algorithm.lower())
        assert matches(CERTIFICATE.certificate, (algorithm, value))
        assert matches(CERTIFICATE.certificate, (algorithm, value.lower()))
        assert not matches(other.certificate, (algorithm, value))
        assert not matches(CERTIFICATE.certificate, (algorithm, value[:-1]))


@pytest.mark.parametrize("algorithm", ["sha-1", "md5", "", "sha-256 "])
def test_weak_and_unknown_fingerprints_match_nothing(algorithm: str) -> None:
    assert not matches(CERTIFICATE.certificate, (algorithm, CERTIFICATE.fingerprint))


@given(st.binary(max_size=300), st.sampled_from([20, 21, 22, 23, 63]))
def test_any_first_datagram_is_ignored_or_refused(data: bytes, kind: int) -> None:
    session = DtlsSession(CONTEXT)
    with suppress(DtlsError):
        session.receive(bytes((kind,)) + data)
    assert not session.connected
    assert sum(map(len, session.take_outgoing())) <= 100
