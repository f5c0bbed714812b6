"""Puts a backup in place of the data of this machine."""

import os
import shutil
import tarfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Final

from gateway.adapters.backup import CONFIG, DELETED, FORMAT, KEPT, LIST, Places, is_backup
from gateway.adapters.local.data_folder import GATEWAY_RUN, LOCK, data_folder, folder_lock
from gateway.lib import bounded_json
from gateway.ports.errors import StoreUnusable

_UNPACKED: Final = ".restore"
_RESTORED_CONFIG: Final = "config-of-backup.toml"
_MAX_LIST: Final = 10_000_000  # bytes
_SHOWN: Final = 100  # characters of a name in a message


def restore_backup(places: Places, source: IO[bytes], *, force: bool) -> list[str]:
    """Restores the data while no gateway runs. Returns lines for the operator.

    Nothing changes if the backup is damaged, or too new for this program.
    force: data that is here is moved to a folder beside it. Media stay; files of the same name are replaced.
    Raises StoreUnusable.
    """
    data = data_folder(places.data)
    run = data / GATEWAY_RUN
    made = [path for path in (run, run / LOCK) if not path.exists()]
    with folder_lock(run):
        _give(made, data)
        stores = [Path(f"{path}{suffix}") for path, _ in places.stores.values() for suffix in ("", "-wal", "-shm")]
        present = [path for path in (*stores, *places.entries()) if path.exists() and not is_backup(path)]
        if present and not force:
            names = ", ".join(path.name for path in present[:3])
            raise StoreUnusable(f"{data} has data already ({names}, …): with --force it is moved to {data}/{KEPT}-…")
        folders = [folder / _UNPACKED for folder in (data, places.media) if folder is not None]
        _remove(folders)
        try:
            with tarfile.open(fileobj=source, mode="r|*") as tar:
                return _restore(places, tar, present)
        except (tarfile.TarError, EOFError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise StoreUnusable(f"this is not a whole backup of Millrace: {error}") from None
        finally:
            _remove(folders)


def _remove(folders: Iterable[Path]) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def _restore(places: Places, tar: tarfile.TarFile, present: list[Path]) -> list[str]:
    """Reads the whole backup, and only then changes data and media."""
    entries, notes = _read_list(tar), []
    targets: dict[Path, Path] = {}
    for name in entries:
        member = tar.next()
        if member is not None and member.pax_headers.keys() >= DELETED.keys():
            continue
        file = _unpack(tar, member, places.data, name, like=places.data)
        kind, _, rest = name.partition("/")
        if kind == "data":
            targets[file] = _below(places.data, rest)
        elif kind == "stores" and rest.removesuffix(".db") in places.stores:
            targets[file], adapter = places.stores[rest.removesuffix(".db")]
            adapter.inspect(file)
        elif name == CONFIG:
            targets[file] = places.data / _RESTORED_CONFIG
            notes.append(f"the settings file of the backup is {targets[file]}")
        else:
            notes.append(f"{name} is left out: the settings name another place for it")
    media: dict[Path, Path] = {}
    for member in iter(tar.next, None):
        if places.media and member.name.startswith("media/"):
            target = _below(places.media, member.name.removeprefix("media/"))
            media[_unpack(tar, member, places.media, member.name, like=places.data, mode=0o640)] = target
    if present:
        kept = places.data / f"{KEPT}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}"
        kept.mkdir(mode=0o700)
        for path in present:
            taken = (kept / path.name).exists()  # stores may have equal names in different folders
            shutil.move(path, kept / (f"{path.parent.name}-{path.name}" if taken else path.name))
        notes.append(f"the earlier data is in {kept}")
    for file, target in (*targets.items(), *media.items()):
        _place(file, target, places.data)
    stores = sum(name.startswith("stores/") for name in entries)
    return [f"restored: {stores} databases, {len(entries) - stores} files, {len(media)} of media", *notes]


def _read_list(tar: tarfile.TarFile) -> list[str]:
    """Returns the names of the files before the media."""
    member = tar.next()
    file = tar.extractfile(member) if member is not None and member.name == LIST else None
    if file is None:
        raise ValueError(f"it does not begin with {LIST}")
    about = bounded_json.loads(file.read(_MAX_LIST))
    if about["format"] > FORMAT:
        raise StoreUnusable(f"the backup was written by a newer Millrace, {about['version']}")
    return [str(name) for name in about["entries"]]


def _unpack(
    tar: tarfile.TarFile, member: tarfile.TarInfo | None, folder: Path, name: str, *, like: Path, mode: int = 0o600
) -> Path:
    """Writes one file to a hidden folder below `folder`. Raises ValueError if it is not this regular file.

    like: the folder whose owner gets new folders. A sparse file is refused: it is larger than the archive.
    """
    content = tar.extractfile(member) if member is not None and member.isreg() and member.name == name else None
    if content is None or member is None or member.issparse():
        raise ValueError(f"{name[:_SHOWN]!r} is missing, or is no file")
    path = _below(folder / _UNPACKED, name)
    _make_folder(path.parent, like)
    try:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            shutil.copyfileobj(content, file)
    except FileExistsError:
        raise ValueError(f"it has {name[:_SHOWN]!r} twice") from None
    return path


def _below(folder: Path, name: str) -> Path:
    """Returns the path of a file below a folder. Raises ValueError if the name, or a link on the way, leaves it."""
    path = folder / name
    leaves = {"", ".", ".."} & set(name.split("/")) or not path.resolve().is_relative_to(folder.resolve())
    if leaves or path.is_dir():
        raise ValueError(f"{name[:_SHOWN]!r} is no name of a file below {folder}")
    return path


def _make_folder(folder: Path, like: Path) -> None:
    """Makes a folder and its parents. If root does that, they get the owner of the folder `like`."""
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(mode=0o750, parents=True, exist_ok=True)
    _give(made, like)


def _give(paths: Iterable[Path], like: Path) -> None:
    """Gives files and folders to the owner of the folder `like`, if root does that."""
    if os.geteuid() == 0:
        for path in paths:
            os.chown(path, like.stat().st_uid, like.stat().st_gid, follow_symlinks=False)


def _place(file: Path, target: Path, like: Path) -> None:
    """Moves a file to its place. If root does that, the file gets the owner of the data folder."""
    _make_folder(target.parent, like)
    shutil.move(file, target)
    _give([target], like)
