"""Secrets in files: the signing secret and the admin token's hash in the data folder, and files by reference."""

import asyncio
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from gateway.adapters.local.data_folder import data_folder, write_once
from gateway.channels.stream_key import Algorithm, SigningSecrets
from gateway.ports.errors import StoreUnusable
from gateway.ports.stores import SecretValue
from gateway.settings import Settings
from gateway.settings.option_types import MIN_SECRET_LENGTH, is_short

SIGNING, TOKEN = "signing.secret", "admin.token"
_MAX_BYTES: Final = 4096  # of each of these two files
_MAX_REFERENCED_BYTES: Final = 65_536
_HINT: Final = ": delete it and the next start makes a new one"


def signing_secret(settings: Settings) -> SigningSecrets:
    """Returns the secrets that sign and verify stream keys.

    The settings override the secret in the data folder, which the first call creates.
    """
    signing = settings.signing
    current = signing.secret.get_secret_value() or _stored_secret(settings.data)
    return SigningSecrets(current, signing.previous_secret.get_secret_value(), Algorithm(signing.algorithm))


def _stored_secret(folder: Path) -> str:
    path = data_folder(folder) / SIGNING
    if not path.exists():
        write_once(path, secrets.token_urlsafe(32) + "\n")
    secret, _ = _read(path, _MAX_BYTES, _HINT)
    if is_short(secret):
        raise StoreUnusable(f"{path} holds fewer than {MIN_SECRET_LENGTH} characters{_HINT}")
    return secret


@dataclass(slots=True)
class TokenVerifier:
    """Verifies the admin token by its SHA-256; the token itself is not kept.

    A plain hash is safe for a token of 256 random bits, and fast enough for every request.
    """

    digest: bytes = field(repr=False)

    def verify(self, token: str) -> bool:
        """Whether this is the token. Compares in constant time."""
        return hmac.compare_digest(_hash(token), self.digest)

    def rotate(self, token: str) -> None:
        """Replaces the token. Users who signed in with the old one must sign in again."""
        self.digest = _hash(token)

    @property
    def mark(self) -> str:
        """A text that is different for each token and reveals nothing about it."""
        return hashlib.sha256(b"mark of the admin token:" + self.digest).hexdigest()


def admin_token(settings: Settings) -> tuple[TokenVerifier, str | None]:
    """Returns the verifier, and the token itself if this call has just created it.

    The caller must print a new token, because it cannot be read again. If the settings have a token, this does not read
    or create the file.
    """
    if configured := settings.admin.token.get_secret_value():
        return TokenVerifier(_hash(configured)), None
    path = data_folder(settings.data) / TOKEN
    if not path.exists():
        token = secrets.token_urlsafe(32)
        if write_once(path, f"sha256:{_hash(token).hex()}\n"):
            return TokenVerifier(_hash(token)), token
    text, _ = _read(path, _MAX_BYTES, _HINT)
    if not (match := re.fullmatch(r"sha256:([0-9a-f]{64})", text)):
        raise StoreUnusable(f"{path} holds no hash of a token: delete it and the next start makes a new token")
    return TokenVerifier(bytes.fromhex(match[1])), None


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


class FileSecrets:
    """A SecretStore for files, as container platforms mount them. They may be replaced at any time.

    A file has no previous value. The caller must remember it.
    """

    async def read(self, name: str) -> SecretValue:
        text, modified = await asyncio.to_thread(_read, Path(name), _MAX_REFERENCED_BYTES)
        return SecretValue(text, "", modified)


def _read(path: Path, max_bytes: int, hint: str = "") -> tuple[str, float]:
    """Returns the text of a file without surrounding whitespace, and when it was modified.

    hint: the end of an error message. Raises StoreUnusable.
    """
    try:
        with path.open(encoding="utf-8") as file:
            text, modified = file.read(max_bytes).strip(), path.stat().st_mtime
    except OSError as e:
        raise StoreUnusable(f"{path} cannot be read: {e.strerror}") from None
    except UnicodeDecodeError:
        raise StoreUnusable(f"{path} is not text{hint}") from None
    if not text:
        raise StoreUnusable(f"{path} is empty{hint}")
    return text, modified
