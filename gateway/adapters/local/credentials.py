"""The secrets in the data folder: the signing secret, and the admin token as a hash."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from gateway.adapters.local.data_folder import data_folder, write_once
from gateway.channels.stream_key import Algorithm, SigningSecrets
from gateway.ports.errors import StoreUnusable
from gateway.settings import Settings
from gateway.settings.option_types import MIN_SECRET_LENGTH, is_short

SIGNING, TOKEN = "signing.secret", "admin.token"
_LONGEST = 4096


def signing_secret(settings: Settings) -> SigningSecrets:
    """Returns the secrets that sign and verify stream keys.

    The configured secret is used, else the data folder's, which the first call creates.
    """
    return SigningSecrets(
        current=settings.signing.secret.get_secret_value() or _secret_or_reference(settings.data),
        previous=settings.signing.previous_secret.get_secret_value(),
        algorithm=Algorithm(settings.signing.algorithm),
    )


def _secret_or_reference(folder: Path) -> str:
    path = data_folder(folder) / SIGNING
    if not path.exists():
        write_once(path, secrets.token_urlsafe(32) + "\n")
    secret = _read(path)
    if is_short(secret):
        raise StoreUnusable(
            f"{path} holds fewer than {MIN_SECRET_LENGTH} characters: delete it and the next start makes a new one"
        )
    return secret


@dataclass(slots=True)
class TokenVerifier:
    """Keeps the admin token's SHA-256, not the token. `rotate` sets a token that was read again.

    A plain hash is enough for a token of 256 random bits, and cheap enough for every request.
    """

    digest: bytes = field(repr=False)

    def verify(self, token: str) -> bool:
        """Whether this is the token, in constant time."""
        return hmac.compare_digest(_hash(token), self.digest)

    def rotate(self, token: str) -> None:
        """Replaces the token. Users who signed in with the old one have to sign in again."""
        self.digest = _hash(token)

    @property
    def mark(self) -> str:
        """A text that differs for every token and reveals nothing about it."""
        return hashlib.sha256(b"mark of the admin token:" + self.digest).hexdigest()


def admin_token(settings: Settings) -> tuple[TokenVerifier, str | None]:
    """Returns the verifier, and the token itself if this call has just created it.

    Print a new token at once: it cannot be read again. The configured token wins; then the file is neither read nor
    created.
    """
    if given := settings.admin.token.get_secret_value():
        return TokenVerifier(_hash(given)), None
    path = data_folder(settings.data) / TOKEN
    if not path.exists():
        token = secrets.token_urlsafe(32)
        if write_once(path, f"sha256:{_hash(token).hex()}\n"):
            return TokenVerifier(_hash(token)), token
    text = _read(path)
    if not (form := re.fullmatch(r"sha256:([0-9a-f]{64})", text)):
        raise StoreUnusable(f"{path} holds no hash of a token: delete it and the next start makes a new token")
    return TokenVerifier(bytes.fromhex(form[1])), None


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def _read(path: Path) -> str:
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(_LONGEST).strip()
    except OSError as e:
        raise StoreUnusable(f"{path} cannot be read: {e.strerror}") from None
    except UnicodeDecodeError:
        raise StoreUnusable(f"{path} is not text: delete it and the next start makes a new one") from None
    if not text:
        raise StoreUnusable(f"{path} is empty: delete it and the next start makes a new one")
    return text
