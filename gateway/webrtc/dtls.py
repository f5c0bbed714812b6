"""DTLS 1.2 (RFC 6347), and the SRTP keys of a handshake (RFC 5764). Datagrams in, datagrams out."""

from collections.abc import Iterator
from typing import Final

from cryptography import x509
from OpenSSL import SSL

from gateway.protocols.errors import RemoteProtocolError
from gateway.webrtc.certificate import DtlsCertificate
from gateway.webrtc.dtls_alerts import SUITES, DtlsAlerts
from gateway.webrtc.srtp import SrtpKeys, keys_of, material_size

MAX_DATAGRAM: Final = 1_200  # bytes of a handshake datagram: fits every path, also a tunnel
# RFC 8827 §6.5: all endpoints must support the first cipher.
_CIPHERS: Final = ":".join(SUITES).encode()
_PROFILES: Final = b"SRTP_AEAD_AES_128_GCM:SRTP_AEAD_AES_256_GCM:SRTP_AES128_CM_SHA1_80"
_DTLS_1_2: Final = 0xFEFD  # on the wire, and for OpenSSL
_EXPORTER: Final = b"EXTRACTOR-dtls_srtp"  # RFC 5764 §4.2
_RECORD_HEADER: Final = 13  # bytes: type, version, epoch, sequence number, length
_READ_SIZE: Final = 65_536


class DtlsError(RemoteProtocolError):
    """The handshake failed: the peer's bytes are wrong, or it has no common cipher or SRTP profile with us."""


def make_context(certificate: DtlsCertificate) -> SSL.Context:
    """Returns the context that all sessions of a process share."""
    context = SSL.Context(SSL.DTLS_METHOD)
    context.set_min_proto_version(_DTLS_1_2)
    context.set_max_proto_version(_DTLS_1_2)
    context.set_options(SSL.OP_CIPHER_SERVER_PREFERENCE | SSL.OP_NO_QUERY_MTU | SSL.OP_NO_COMPRESSION)
    context.set_options(SSL.OP_NO_TICKET | SSL.OP_NO_RENEGOTIATION)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_cipher_list(_CIPHERS)
    context.set_tlsext_use_srtp(_PROFILES)
    # Certificates are self-signed. The owner compares the fingerprint after the handshake.
    context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, lambda *_: True)
    context.use_privatekey(certificate.key)
    context.use_certificate(certificate.certificate)
    return context


class DtlsSession:
    """One DTLS connection. After each call, `take_outgoing` has the datagrams to send.

    client: we begin the handshake. connected: the handshake is finished. closed: the peer sent `close_notify`.
    """

    __slots__ = ("_connection", "_sequence", "client", "closed", "connected")

    def __init__(self, context: SSL.Context, *, client: bool = False) -> None:
        self._connection = SSL.Connection(context, None)
        self.client = client
        if client:
            self._connection.set_connect_state()
        else:
            self._connection.set_accept_state()
        self._connection.set_ciphertext_mtu(MAX_DATAGRAM)
        self._sequence = 0  # number of our next record in epoch 1
        self.connected = False
        self.closed = False

    def begin(self) -> None:
        """Begins the handshake as client."""
        try:
            self._connection.do_handshake()
        except SSL.WantReadError:
            return
        raise AssertionError("a handshake needs the answer of the server")

    def receive(self, datagram: bytes) -> None:
        """Handles one datagram. Application data are discarded. Raises DtlsError."""
        connection = self._connection
        try:
            connection.bio_write(datagram)
            if not self.connected:
                connection.do_handshake()
                self.connected = True
            while True:
                connection.recv(_READ_SIZE)
        except SSL.WantReadError:
            return
        except SSL.ZeroReturnError:
            self.closed = True
        except SSL.Error as error:
            raise DtlsError(_reason(error)) from None

    def take_outgoing(self) -> list[bytes]:
        """Returns the datagrams to send, each of at most MAX_DATAGRAM bytes."""
        try:
            data = self._connection.bio_read(_READ_SIZE)
        except SSL.WantReadError:
            return []
        self._sequence = max(self._sequence, next_sequence(data))
        return datagrams_of(data, MAX_DATAGRAM)

    def timeout(self) -> float | None:
        """Returns the seconds until `resend` must be called; None if nothing waits for an answer."""
        return self._connection.DTLSv1_get_timeout()

    def resend(self) -> None:
        """Sends the last flight again if its timeout has passed (RFC 6347 §4.2.4).

        Raises DtlsError if it was sent too often.
        """
        try:
            self._connection.DTLSv1_handle_timeout()
        except SSL.Error as error:
            raise DtlsError(_reason(error) or "no answer") from None

    def close(self) -> None:
        """Sends `close_notify` if the handshake is finished."""
        if self.connected:
            try:
                self._connection.shutdown()
            except SSL.Error:  # after a fatal alert nothing can be sent
                self.closed = True

    def make_alerts(self) -> DtlsAlerts:
        """Returns an object that reads and writes alerts without this session. The handshake must be finished."""
        connection = self._connection
        cipher = connection.get_cipher_name()
        assert cipher in SUITES, "the context offers no other"
        master = connection.master_key()
        client, server = connection.client_random(), connection.server_random()
        assert master is not None and client is not None and server is not None, "the handshake is finished"
        return DtlsAlerts(cipher, master, (client, server), self._sequence, client=self.client)

    def certificate(self) -> x509.Certificate:
        """Returns the peer's certificate. Raises DtlsError if it cannot be read."""
        try:
            certificate = self._connection.get_peer_certificate(as_cryptography=True)
        except ValueError:
            raise DtlsError("unreadable certificate") from None
        if certificate is None:
            raise DtlsError("no certificate")
        return certificate

    def srtp_keys(self) -> SrtpKeys:
        """Returns the keys of the finished handshake. Raises DtlsError without a common profile."""
        profile = self._connection.get_selected_srtp_profile()
        if not profile:
            raise DtlsError("no common SRTP profile")
        return keys_of(profile, self._connection.export_keying_material(_EXPORTER, material_size(profile)))


def datagrams_of(records: bytes, limit: int) -> list[bytes]:
    """Joins DTLS records to datagrams of at most `limit` bytes. A longer record is a datagram of its own."""
    datagrams: list[bytes] = []
    begin = 0
    for at, after in _records(records):
        if after - begin > limit and at > begin:
            datagrams.append(records[begin:at])
            begin = at
    if begin < len(records):
        datagrams.append(records[begin:])
    return datagrams


def next_sequence(records: bytes) -> int:
    """Returns the sequence number after the last record of epoch 1; 0 without one."""
    numbers = (int.from_bytes(records[at + 5 : at + 11], "big") for at, _ in _records(records) if records[at + 4] == 1)
    return max(numbers, default=-1) + 1


def _records(records: bytes) -> Iterator[tuple[int, int]]:
    """Yields begin and end of each record. If the last record is cut, its end lies behind the data."""
    at = 0
    while at + _RECORD_HEADER <= len(records):
        after = at + _RECORD_HEADER + int.from_bytes(records[at + 11 : at + 13], "big")
        yield at, after
        at = after


def _reason(error: SSL.Error) -> str:
    """Returns OpenSSL's text of the first error, such as "no shared cipher"."""
    errors = error.args[0] if error.args and isinstance(error.args[0], list) else []
    return str(errors[0][2]) if errors else "the handshake failed"
