"""The data folder, which is created on first use. Readers never see a partial file in it."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from gateway.ports.errors import StoreUnusable


def data_folder(path: Path) -> Path:
    """Returns the folder. Creates it if it is missing. Raises StoreUnusable if that fails."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise StoreUnusable(f"the data folder {path} cannot be made: {e.strerror}") from None
    return path


def write_once(path: Path, text: str) -> bool:
    """Creates the file with mode 0600. Returns False and changes nothing if the file exists already.

    Readers never see a partial file: it is written under another name and then linked.
    """
    hidden = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        _write_new(hidden, text)
        try:
            os.link(hidden, path)
        except FileExistsError:
            return False
        except OSError:  # a file system without hard links: creates the file exclusively instead
            try:
                _write_new(path, text)
            except FileExistsError:
                return False
        return True
    except OSError as e:
        raise StoreUnusable(f"{path} cannot be written: {e.strerror}") from None
    finally:
        with contextlib.suppress(OSError):
            hidden.unlink(missing_ok=True)


def _write_new(path: Path, text: str) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
