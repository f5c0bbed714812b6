"""The data folder, which is created on first use. Readers never see a partial file in it."""

import contextlib
import errno
import fcntl
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import structlog

from gateway.ports.errors import StoreUnusable

log = structlog.get_logger(__name__)

GATEWAY_RUN: Final = "run"  # folder in the data folder, for the lock of a gateway and files of its processes
EDGE_RUN: Final = "run-edge"  # likewise of an edge
LOCK: Final = "lock"


def data_folder(path: Path) -> Path:
    """Returns the folder. Creates it if it is missing. Raises StoreUnusable if that fails."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise StoreUnusable(f"the data folder {path} cannot be made: {e.strerror}") from None
    return path


@contextlib.contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Locks a folder for one process. Creates the folder if it is missing. Only this user can access the folder.

    The system ends the lock of a process that dies.

    Raises StoreUnusable if another process has the lock, or if the folder cannot be used.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreUnusable(f"{folder} cannot be used: {error.strerror}") from None
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                pid = os.read(lock, 20).decode("ascii", "replace").strip()
                raise StoreUnusable(f"process {pid or 'unknown'} runs on this data folder already ({folder})") from None
            log.warning("this file system has no locks: start no second gateway here", folder=str(folder))
        with contextlib.suppress(OSError):  # the disk is full; the number only helps the operator
            os.pwrite(lock, f"{os.getpid():<20}\n".encode(), 0)
        yield
    finally:
        os.close(lock)


@contextlib.contextmanager
def _hidden_file(path: Path, text: str) -> Iterator[Path]:
    """Writes a hidden file beside `path`, and removes it at the end if it is still there. Raises StoreUnusable."""
    hidden = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        _write_new(hidden, text)
        yield hidden
    except OSError as e:
        raise StoreUnusable(f"{path} cannot be written: {e.strerror}") from None
    finally:
        with contextlib.suppress(OSError):
            hidden.unlink(missing_ok=True)


def replace_file(path: Path, text: str) -> None:
    """Writes the file with mode 0600. Readers see the old text or the new one. The folder's owner can read it.

    Raises StoreUnusable.
    """
    with _hidden_file(path, text) as hidden:
        folder = path.parent.stat()
        if os.geteuid() == 0 and folder.st_uid != 0:  # root may write it for the user of the gateway
            os.chown(hidden, folder.st_uid, folder.st_gid)
        hidden.replace(path)


def write_once(path: Path, text: str) -> bool:
    """Creates the file with mode 0600. Returns False and changes nothing if the file exists already.

    Readers never see a partial file: it is written under another name and then linked. Only a file system without hard
    links shows it while it is written.
    """
    with _hidden_file(path, text) as hidden:
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


def _write_new(path: Path, text: str) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
