"""The files of ACME in the data folder: account, certificate, attempts, and the answers to challenges."""

import json
import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from gateway.adapters.local.data_folder import replace_file
from gateway.ports.errors import StoreUnusable

FOLDER: Final = "acme"  # in the data folder
_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")  # RFC 8555 §8.3, the base64url alphabet
_MAX_CHALLENGE: Final = 4096  # bytes of a key authorization


@dataclass(slots=True)
class Attempts:
    """The results of the last attempts to get a certificate, for restarts.

    directory: of the authority. kind: of the challenge to use next. failures: times since 1970, of the last hour.
    not_before: the authority allows no request before; seconds since 1970. certified: it issued the stored certificate.
    """

    directory: str
    kind: str = "http-01"
    failures: list[float] = field(default_factory=list)
    not_before: float = 0.0
    certified: bool = False


class AcmeFiles:
    """The folder `<data>/acme`. Only this user can read it, and no reader sees a partial file.

    The methods that write raise StoreUnusable.

    publish: stores the files of challenges for other machines, by their names; None: this machine is alone. It blocks.
    """

    publish: Callable[[Mapping[str, str]], None] | None = None

    def __init__(self, data: Path) -> None:
        self.folder = data / FOLDER
        self.certificate = self.folder / "certificate.pem"  # the key and the chain, so that they change together
        self._account = self.folder / "account.json"
        self._attempts = self.folder / "attempts.json"
        self._challenges = self.folder / "challenges"

    def prepare(self) -> None:
        """Creates the folder. Raises StoreUnusable."""
        try:
            for folder in (self.folder, self._challenges):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StoreUnusable(f"{self.folder} cannot be used: {error.strerror}") from None

    # ---- account ----

    def account(self, directory: str) -> dict[str, Any] | None:
        """Returns the account at this authority; None if there is none."""
        stored = _read_object(self._account)
        return stored if stored.get("directory") == directory else None

    def save_account(self, account: dict[str, Any]) -> None:
        replace_file(self._account, json.dumps(account))

    # ---- certificate ----

    def stored_certificate(self) -> str | None:
        """Returns the key and the chain; None if they cannot be read."""
        try:
            return self.certificate.read_text("ascii")
        except (OSError, ValueError):
            return None

    def save_certificate(self, pem: str) -> None:
        replace_file(self.certificate, pem)

    @contextmanager
    def temporary(self, pem: str) -> Iterator[Path]:
        """Yields a file with a certificate that is not kept. Raises StoreUnusable."""
        path = self.folder / f"temporary-{secrets.token_hex(6)}.pem"
        try:
            replace_file(path, pem)
            yield path
        finally:
            path.unlink(missing_ok=True)

    def attempts(self, directory: str) -> Attempts:
        """Returns the attempts at this authority."""
        stored = _read_object(self._attempts)
        try:
            attempts = Attempts(**stored)
        except TypeError:
            return Attempts(directory)
        return attempts if attempts.directory == directory else Attempts(directory)

    def save_attempts(self, attempts: Attempts) -> None:
        replace_file(self._attempts, json.dumps(asdict(attempts)))

    # ---- challenges ----

    def save_http_challenge(self, token: str, authorization: str) -> None:
        """Raises ValueError if the token is no file name."""
        if not is_token(token):
            raise ValueError("the authority sent a token that is not base64url")
        replace_file(self._challenges / token, authorization)

    def http_challenge(self, token: str) -> str | None:
        """Returns the answer to a token; None if the token is unknown or malformed."""
        if not is_token(token):
            return None
        try:
            with (self._challenges / token).open(encoding="ascii") as file:
                return file.read(_MAX_CHALLENGE)
        except (OSError, ValueError):
            return None

    def save_tls_challenge(self, name: str, pem: str) -> None:
        """Stores the certificate of a challenge. name: a checked one of the settings."""
        replace_file(self.tls_challenge(name), pem)

    def tls_challenge(self, name: str) -> Path:
        """Returns the path of the certificate that proves the control of a name. It exists during the challenge."""
        return self._challenges / f"{name}.pem"

    def publish_challenges(self) -> None:
        """Lets other machines answer the challenges too, before the authority checks. Raises StoreUnavailable."""
        if self.publish is not None:
            self.publish({path.name: path.read_text("ascii") for path in self._challenges.iterdir()})

    def clear_challenges(self) -> None:
        with suppress(OSError):
            for path in self._challenges.iterdir():
                path.unlink(missing_ok=True)


def is_token(text: str) -> bool:
    """Whether this may be the token of a challenge, which is also a file name."""
    return _TOKEN.fullmatch(text) is not None


def _read_object(path: Path) -> dict[str, Any]:
    """Returns a stored JSON object; an empty one if there is none that can be read."""
    try:
        stored = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return stored if isinstance(stored, dict) else {}
