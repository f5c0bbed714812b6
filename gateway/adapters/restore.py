"""Puts a backup in place of the data of this machine."""

import json
import os
import shutil
import tarfile
import time
from pathlib import Path
from typing import IO, Final

from gateway.adapters.backup import CONFIG, FORMAT, KEPT, LIST, Places
from gateway.adapters.local.data_folder import GATEWAY_RUN, data_folder, folder_lock
from gateway.ports.errors import StoreUnusable

_UNPACKED: Final = ".restore"
_RESTORED_CONFIG: Final = "config-of-backup.toml"
_MAX_LIST: Final = 1_000_000  # bytes


def restore_backup(places: Places, source: IO[bytes], *, force: bool) -> list[str]:
    """Restores the data while no gateway runs. Returns lines for the operator.

    Nothing changes if the backup is damaged, or too new for this program.
    force: data that is here is moved to a folder beside it. Media stay; files of the same name are replaced.
    Raises StoreUnusable.
    """
    data = data_folder(places.data)
    with folder_lock(data / GATEWAY_RUN):
        stores = [Path(f"{path}{suffix}") for path, _ in places.stores.values() for suffix in ("", "-wal", "-shm")]
        present = [path for path in (*stores, *places.entries()) if path.exists()]
        if present and not force:
            names = ", ".join(path.name for path in present[:3])
            raise StoreUnusable(f"{data} has data already ({names}, …): with --force it is moved to {data}/{KEPT}-…")
        unpacked = data / _UNPACKED
        shutil.rmtree(unpacked, ignore_errors=True)
        try:
            with tarfile.open(fileobj=source, mode="r|*") as tar:
                return _restore(places, tar, unpacked, present)
        except (tarfile.TarError, EOFError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise StoreUnusable(f"this is not a whole backup of Millrace: {error}") from None
        finally:
            shutil.rmtree(unpacked, ignore_errors=True)


def _restore(places: Places, tar: tarfile.TarFile, unpacked: Path, present: list[Path]) -> list[str]:
    entries, notes = _read_list(tar), []
    targets: dict[Path, Path] = {}
    for name in entries:
        file = _unpack(tar, tar.next(), unpacked, name)
        kind, _, rest = name.partition("/")
        if kind == "data":
            targets[file] = places.data / rest
        elif kind == "stores" and rest.removesuffix(".db") in places.stores:
            targets[file], adapter = places.stores[rest.removesuffix(".db")]
            adapter.inspect(file)
        elif name == CONFIG:
            targets[file] = places.data / _RESTORED_CONFIG
            notes.append(f"the settings file of the backup is {targets[file]}")
        else:
            notes.append(f"{name} is left out: the settings name another place for it")
    if present:
        kept = places.data / f"{KEPT}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}"
        kept.mkdir(mode=0o700)
        for path in present:
            taken = (kept / path.name).exists()  # stores may have equal names in different folders
            shutil.move(path, kept / (f"{path.parent.name}-{path.name}" if taken else path.name))
        notes.append(f"the earlier data is in {kept}")
    for file, target in targets.items():
        _place(file, target, places.data)
    media = 0
    for member in iter(tar.next, None):
        file = _unpack(tar, member, unpacked, member.name)
        if places.media and member.name.startswith("media/"):
            _place(file, places.media / member.name.removeprefix("media/"), places.data)
            media += 1
        file.unlink(missing_ok=True)
    stores = sum(name.startswith("stores/") for name in entries)
    return [f"restored: {stores} databases, {len(entries) - stores} files, {media} of media", *notes]


def _read_list(tar: tarfile.TarFile) -> list[str]:
    """Returns the names of the files before the media."""
    member = tar.next()
    file = tar.extractfile(member) if member is not None and member.name == LIST else None
    if file is None:
        raise ValueError(f"it does not begin with {LIST}")
    about = json.loads(file.read(_MAX_LIST))
    if about["format"] > FORMAT:
        raise StoreUnusable(f"the backup was written by a newer Millrace, {about['version']}")
    return [str(name) for name in about["entries"]]


def _unpack(tar: tarfile.TarFile, member: tarfile.TarInfo | None, folder: Path, name: str) -> Path:
    """Writes one file below the folder. Raises ValueError if it is not this regular file, or leaves the folder."""
    content = tar.extractfile(member) if member is not None and member.isreg() and member.name == name else None
    if content is None or ".." in name.split("/") or name.startswith("/"):
        raise ValueError(f"{name} is missing")
    path = folder / name
    path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o640 if name.startswith("media/") else 0o600), "wb") as file:
        shutil.copyfileobj(content, file)
    return path


def _place(file: Path, target: Path, like: Path) -> None:
    """Moves a file to its place. If root does that, the file gets the owner of the data folder."""
    made = [folder for folder in target.parents if not folder.exists()]
    target.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    shutil.move(file, target)
    if os.geteuid() == 0:
        for path in (target, *made):
            os.chown(path, like.stat().st_uid, like.stat().st_gid)
