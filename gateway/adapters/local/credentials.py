"""Secrets in files: the signing secret and the admin token's hash in the data folder, and files by reference."""

import asyncio
import hashlib
import hmac
import re
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import structlog

from gateway.adapters.local.data_folder import data_folder, replace_file, write_once
from gateway.channels.stream_key import Algorithm, SigningSecrets
from gateway.ports.errors import StoreUnusable
from gateway.ports.stores import SecretValue
from gateway.settings import Settings
from gateway.settings.option_types import MIN_SECRET_LENGTH, is_short

log = structlog.get_logger(__name__)

SIGNING, TOKEN = "signing.secret", "admin.token"
_FOLLOW_SECONDS: Final = 1.0
_RESET_HINT: Final = ": `millrace token reset` makes a new token"
_MAX_BYTES: Final = 4096  # of each of these two files
_MAX_REFERENCED_BYTES: Final = 65_536
_HINT: Final = ": delete it and the next start makes a new one"


def signing_secret(settings: Settings) -> SigningSecrets:
    """Returns the secrets that sign and verify stream keys.

    The settings override the secret in the data folder, which the first call creates.
    """
    signing = settings.signing
    current = signing_secret_text(settings)
    return SigningSecrets(current, signing.previous_secret.get_secret_value(), Algorithm(signing.algorithm))


def signing_secret_text(settings: Settings) -> str:
    """Returns the secret that signs stream keys, like `signing_secret`."""
    return settings.signing.secret.get_secret_value() or _stored_secret(settings.data)


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


@dataclass(slots=True)
class AdminToken:
    """The verifier of the admin token, and the file with the token's hash; None if the settings have the token.

    claim: stores a new token for a fleet, and returns False if it has one already; None: the machine is alone.

    At the first start, one process makes a token, shows it when its ports are open, and then stores it. A failed start
    stores nothing. Other processes accept no token until they have read the file.
    """

    path: Path | None
    verifier: TokenVerifier
    is_known: bool = True
    claim: Callable[[], Awaitable[bool]] | None = None

    def make(self) -> str:
        """Returns a new token, which the verifier accepts from now on. It is not stored."""
        token = secrets.token_urlsafe(32)
        self.verifier.rotate(token)
        return token

    @property
    def file_text(self) -> str:
        """The text of the file for the present token."""
        return _file_text(self.verifier.digest)

    def stored(self) -> str:
        """Returns the text of the file; "" if there is none. Raises StoreUnusable."""
        return _read_if_exists(self._file)

    def store(self) -> bool:
        """Stores the hash. Returns False if another process has stored one. Raises StoreUnusable."""
        return write_once(self._file, f"{self.file_text}\n")

    def replace(self, file_text: str) -> None:
        """Takes the token of another machine, from the text of its file. Raises StoreUnusable."""
        digest = _digest_of(file_text, self._file)
        replace_file(self._file, f"{file_text}\n")
        self.verifier.digest, self.is_known = digest, True

    @property
    def _file(self) -> Path:
        assert self.path is not None, "a token in the settings is not stored"
        return self.path

    async def follow(self) -> None:
        """Reads the file after each change, until cancelled. `millrace token reset` replaces it."""
        known, failure = "", ""
        while self.path is not None:
            try:
                text = await asyncio.to_thread(_read_if_exists, self.path)
                if text and text != known:
                    known, before = text, self.verifier.digest
                    self.verifier.digest = _digest_of(text, self.path)
                    failure = ""
                    if self.verifier.digest != before:
                        log.info("the admin token was read again")
            except StoreUnusable as error:
                if failure != str(error):
                    failure = str(error)
                    log.warning("the admin token cannot be read: the last one stays valid", reason=failure)
            await asyncio.sleep(_FOLLOW_SECONDS)


def admin_token(settings: Settings) -> AdminToken:
    """Returns the admin token of the settings, else of the data folder. Raises StoreUnusable."""
    if configured := settings.admin.token.get_secret_value():
        return AdminToken(None, TokenVerifier(_hash(configured)))
    path = settings.data / TOKEN
    if text := _read_if_exists(path):
        return AdminToken(path, TokenVerifier(_digest_of(text, path)))
    return AdminToken(path, TokenVerifier(secrets.token_bytes(32)), is_known=False)  # no token has this hash


def new_admin_token() -> tuple[str, str]:
    """Returns a new token, and the text of its file."""
    token = secrets.token_urlsafe(32)
    return token, _file_text(_hash(token))


def store_admin_token(folder: Path, file_text: str) -> None:
    """Stores the hash of a token in the data folder. Raises StoreUnusable."""
    replace_file(folder / TOKEN, f"{file_text}\n")


def _file_text(digest: bytes) -> str:
    return f"sha256:{digest.hex()}"


def _read_if_exists(path: Path) -> str:
    return _read(path, _MAX_BYTES, _RESET_HINT)[0] if path.exists() else ""


def _digest_of(text: str, path: Path) -> bytes:
    if not (match := re.fullmatch(r"sha256:([0-9a-f]{64})", text)):
        raise StoreUnusable(f"{path} holds no hash of a token{_RESET_HINT}")
    return bytes.fromhex(match[1])


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
