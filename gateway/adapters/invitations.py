"""Invitations to a fleet: another machine gets the shared settings from the database, once, with a key.

The database has them encrypted (AES-256-GCM), under a hash of the key. Only the invited machine gets the key.
"""

import base64
import hashlib
import json
import secrets
import time
from collections.abc import Mapping
from operator import attrgetter
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pydantic import SecretStr

from gateway.adapters.local.credentials import signing_secret_text
from gateway.ports.errors import StoreUnusable
from gateway.ports.stores import ConsoleStore
from gateway.settings import Settings
from gateway.settings.layers import DEFAULTS, MergedOptions

KIND: Final = "invitation"
_NONCE: Final = 12  # bytes
_KEY: Final = 32  # bytes of randomness
# The options that all nodes share. Addresses, ports, files and limits of a machine stay its own.
_SHARED: Final = (
    *("auth.", "cmaf.", "cluster.", "egress.", "hls.", "hooks.", "objects", "oidc.", "playback.", "recording."),
    *("rtmp.apps", "s3.", "signing.", "stream."),
)


def shared_values(merged: MergedOptions, settings: Settings) -> dict[str, Any]:
    """Returns the options that the other machine needs: those that are set here, and the secrets.

    settings: with secrets in place of references. Raises StoreUnusable if this machine is no member of a fleet.
    """
    if not settings.cluster.secret.get_secret_value():
        raise StoreUnusable("cluster.secret is not set: nodes could not ask each other; set it here first")
    values: dict[str, Any] = {}
    for name, sourced in merged.values.items():
        if name.startswith(_SHARED) and sourced.source != DEFAULTS and not isinstance(sourced.value, Mapping):
            value = attrgetter(name)(settings)
            values[name] = value.get_secret_value() if isinstance(value, SecretStr) else _plain(sourced.value)
    values["signing.secret"] = signing_secret_text(settings)
    if settings.objects.startswith("file:"):  # a folder of this machine
        values.pop("objects", None)
    return values


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value if isinstance(value, bool | int | float) else str(value)


async def invite(store: ConsoleStore, values: Mapping[str, Any], seconds: float) -> str:
    """Stores an invitation that ends after `seconds`. Returns its key. Raises StoreUnavailable."""
    key = secrets.token_urlsafe(_KEY)
    nonce = secrets.token_bytes(_NONCE)
    sealed = nonce + AESGCM(_derived(key, "box")).encrypt(nonce, json.dumps(values).encode(), None)
    entry = {"box": base64.b64encode(sealed).decode()}
    await store.put(KIND, _derived(key, "name").hex(), entry, time.time() + seconds)
    return key


async def accept(store: ConsoleStore, key: str) -> dict[str, Any]:
    """Returns the options of an invitation, which ends with that. Raises StoreUnusable, StoreUnavailable."""
    name = _derived(key, "name").hex()
    entry = await store.get(KIND, name)
    if entry is None:
        raise StoreUnusable("this line was used already, or has expired: ask for another one (millrace invite)")
    try:
        sealed = base64.b64decode(entry["box"])
        text = AESGCM(_derived(key, "box")).decrypt(sealed[:_NONCE], sealed[_NONCE:], None)
    except (InvalidTag, KeyError, TypeError, ValueError):
        raise StoreUnusable("the invitation was changed in the database: ask for another one") from None
    if not await store.delete(KIND, name):
        raise StoreUnusable("another machine used this line at the same time: ask for another one")
    return dict(json.loads(text))


def _derived(key: str, use: str) -> bytes:
    """Returns 32 bytes for one use. The key is random, so a plain hash is enough."""
    return hashlib.sha256(f"millrace/invitation/{use}/{key}".encode()).digest()


def as_toml(values: Mapping[str, Any], comment: str) -> str:
    """Returns the options as a settings file. Texts of JSON are texts of TOML, except DEL."""
    lines, section = [f"# {comment}"], ""
    for name in sorted(values, key=lambda name: ("." in name, name)):
        table, _, option = name.rpartition(".")
        if table != section:
            lines += ["", f"[{table}]"]
            section = table
        lines.append(f"{option} = {json.dumps(values[name], ensure_ascii=False)}".replace("\x7f", "\\u007f"))
    return "\n".join(lines) + "\n"
