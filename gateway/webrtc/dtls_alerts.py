"""`close_notify` of a DTLS connection after its handshake, without OpenSSL's connection.

A connection of OpenSSL takes 70 kB, several times as much as the rest of a peer. After the handshake it would only
read and write this alert. So its keys are computed here, and the connection is freed.
"""

import hmac
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_ALERT: Final = 21  # content type
_VERSION: Final = b"\xfe\xfd"  # DTLS 1.2
_FATAL: Final = 2
_WARNING: Final = 1
_CLOSE_NOTIFY: Final = 0
_HEADER: Final = 13  # bytes: type, version, epoch, sequence number, length
_EXPLICIT_NONCE: Final = 8
_SALT: Final = 4  # implicit part of the nonce, RFC 5288 §3
_OVERHEAD: Final = _EXPLICIT_NONCE + 16  # nonce and tag
_ALERT_SIZE: Final = 2

# Hash of the PRF and bytes of a key, by the cipher names of OpenSSL. Those with RSA are for clients that wait for the
# handshake and have such a key, as `openssl req -newkey rsa` makes it for ffmpeg.
SUITES: Final = {
    "ECDHE-ECDSA-AES128-GCM-SHA256": ("sha256", 16),
    "ECDHE-ECDSA-AES256-GCM-SHA384": ("sha384", 32),
    "ECDHE-RSA-AES128-GCM-SHA256": ("sha256", 16),
    "ECDHE-RSA-AES256-GCM-SHA384": ("sha384", 32),
}


class DtlsAlerts:
    """Reads and writes alerts after a finished handshake with a cipher of SUITES.

    randoms: of the client and the server. sequence: next number of our records, epoch 1. client: our role.
    """

    __slots__ = ("_read_key", "_read_salt", "_sequence", "_write_key", "_write_salt")

    def __init__(
        self, cipher: str, master: bytes, randoms: tuple[bytes, bytes], sequence: int, *, client: bool = False
    ) -> None:
        client_random, server_random = randoms
        digest, size = SUITES[cipher]
        # RFC 5246 §6.3: client key, server key, client salt, server salt. AEAD ciphers have no MAC keys.
        block = prf(digest, master, b"key expansion" + server_random + client_random, 2 * (size + _SALT))
        of_client = block[:size], block[2 * size : 2 * size + _SALT]
        of_server = block[size : 2 * size], block[2 * size + _SALT :]
        own, other = (of_client, of_server) if client else (of_server, of_client)
        self._write_key, self._write_salt = own
        self._read_key, self._read_salt = other
        self._sequence = sequence

    def ends(self, datagram: bytes) -> bool:
        """Whether a datagram begins with an authentic `close_notify` or fatal alert."""
        if len(datagram) < _HEADER + _OVERHEAD or datagram[0] != _ALERT or datagram[3:5] != b"\0\1":
            return False
        size = int.from_bytes(datagram[11:13], "big")
        record = datagram[_HEADER : _HEADER + size]
        if size != _OVERHEAD + _ALERT_SIZE or len(record) != size:
            return False
        nonce = self._read_salt + record[:_EXPLICIT_NONCE]
        try:
            alert = AESGCM(self._read_key).decrypt(nonce, record[_EXPLICIT_NONCE:], _additional(datagram[3:11]))
        except InvalidTag:
            return False
        return alert[0] == _FATAL or alert[1] == _CLOSE_NOTIFY

    def close_notify(self) -> bytes:
        """Returns a datagram with the alert `close_notify`."""
        number = b"\0\1" + self._sequence.to_bytes(6, "big")  # RFC 6347 §4.1: epoch and sequence number
        self._sequence += 1
        nonce, alert = self._write_salt + number, bytes((_WARNING, _CLOSE_NOTIFY))
        sealed = AESGCM(self._write_key).encrypt(nonce, alert, _additional(number))
        record = number + sealed
        return bytes((_ALERT,)) + _VERSION + number + len(record).to_bytes(2, "big") + record


def _additional(number: bytes) -> bytes:
    """Returns the additional data of an alert's record (RFC 5246 §6.2.3.3)."""
    return number + bytes((_ALERT,)) + _VERSION + _ALERT_SIZE.to_bytes(2, "big")


def prf(digest: str, secret: bytes, seed: bytes, size: int) -> bytes:
    """Returns `size` bytes of P_hash (RFC 5246 §5). seed: label and seed."""
    result, chained = b"", seed
    while len(result) < size:
        chained = hmac.digest(secret, chained, digest)
        result += hmac.digest(secret, chained + seed, digest)
    return result[:size]
