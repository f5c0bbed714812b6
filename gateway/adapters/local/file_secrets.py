"""Secrets in files, as container platforms mount them; they may be replaced at any time."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

from gateway.ports.errors import StoreUnusable
from gateway.ports.stores import SecretValue

_LONGEST: Final = 65_536


class FileSecrets:
    """A SecretStore. A file does not know its previous value: the caller has to remember it."""

    async def read(self, name: str) -> SecretValue:
        return await asyncio.to_thread(_read, Path(name))


def _read(path: Path) -> SecretValue:
    try:
        with path.open(encoding="utf-8") as file:
            text, changed = file.read(_LONGEST).strip(), path.stat().st_mtime
    except OSError as error:
        raise StoreUnusable(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise StoreUnusable(f"{path} is not text") from None
    if not text:
        raise StoreUnusable(f"{path} holds no text")
    return SecretValue(text, "", changed)
