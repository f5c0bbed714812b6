"""Writes a backup of this machine's stores: one tar file, while gateways run.

backup.json           what is in the file
stores/<name>.db      the SQLite stores, each as it was at one moment
data/…                the other files of the data folder: secrets, certificates, charts
config.toml           the settings file of the gateway
media/…               the folder of `objects`, at the end
"""

import json
import os
import shutil
import sqlite3
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, Self

from gateway import __version__
from gateway.adapters.local.database import Database
from gateway.adapters.stores import file_path, local_databases
from gateway.ports.errors import StoreUnusable
from gateway.settings import Settings

FORMAT: Final = 1
LIST: Final = "backup.json"
CONFIG: Final = "config.toml"
KEPT: Final = "before-restore"  # the beginning of the folder with what a restore replaced
# What a start creates again, what belongs to running processes, jobs and uploads, and files that wait for a bucket.
_LEFT_OUT: Final = frozenset(
    ("run", "run-edge", "spool", "tmp", "slates", "vod", "uploads", "ports.json", "publishing.lock", "nodes.db")
)
DELETED: Final = {"MILLRACE.deleted": "1"}  # pax header of the empty entry for a file that was deleted meanwhile
_JOURNALS: Final = ("-wal", "-shm", "-journal")
_SQLITE: Final = b"SQLite format 3\0"
_LOCK_WAIT: Final = 10  # seconds that SQLite waits for a writer


@dataclass(frozen=True, slots=True)
class Places:
    """Where this machine keeps its data. All paths are absolute.

    stores: the SQLite files with their adapters. media: None if `objects` is a bucket.
    """

    data: Path
    stores: dict[str, tuple[Path, type[Database]]]
    media: Path | None

    @classmethod
    def of(cls, settings: Settings) -> Self:
        media = file_path(settings.objects).absolute() if settings.objects.startswith("file:") else None
        stores = {name: (path.absolute(), adapter) for name, (path, adapter) in local_databases(settings).items()}
        stores.pop("registry", None)  # nodes that run now
        return cls(settings.data.absolute(), stores, media)

    def entries(self) -> list[Path]:
        """Returns the files and folders of the data folder that are neither stores nor media, and that last."""
        others = {path for path, _ in self.stores.values()} | {self.media}
        found = sorted(self.data.iterdir()) if self.data.is_dir() else []
        return [path for path in found if path not in others and _lasts(path.name)]


def _lasts(name: str) -> bool:
    return name not in _LEFT_OUT and not name.startswith((".", KEPT)) and not name.endswith(_JOURNALS)


def write_backup(places: Places, target: IO[bytes], config: Path | None, *, compress: bool, media: bool) -> str:
    """Writes the backup, and returns what is in it. config: the settings file, None: none. Raises StoreUnusable."""
    if not places.data.is_dir():
        raise StoreUnusable(f"there is no data folder {places.data}")
    stores = {f"stores/{name}.db": path for name, (path, _) in places.stores.items() if path.exists()}
    links: list[Path] = []
    found = [file for entry in places.entries() for file in _files(entry, links)]
    backups = [file for file in found if is_backup(file)]  # each would contain all those before it
    files = {f"data/{file.relative_to(places.data)}": file for file in found if file not in backups}
    if config is not None:
        files[CONFIG] = config
    with (
        tempfile.TemporaryDirectory(prefix="millrace-backup-") as scratch,
        tarfile.open(fileobj=target, mode="w|gz" if compress else "w|", format=tarfile.PAX_FORMAT) as tar,
    ):
        copy = Path(scratch, "copy")
        copy.write_text(json.dumps({"format": FORMAT, "version": __version__, "entries": [*stores, *files]}) + "\n")
        tar.add(copy, LIST)
        for name, path in {**stores, **files}.items():
            if _copy(path, copy):
                tar.add(copy, name)
            else:
                entry = tarfile.TarInfo(name)
                entry.pax_headers = DELETED
                tar.addfile(entry)
        count = _add_media(tar, places.media, links) if media and places.media else 0
    left_out = "".join(
        f"; left out, because they are {what}: {', '.join(map(str, paths))}"
        for what, paths in (("links", links), ("backups", backups))
        if paths
    )
    return f"saved: {len(stores)} databases, {len(files)} files, {count} of media{left_out}"


def is_backup(path: Path) -> bool:
    """Whether a path is a file that `write_backup` wrote."""
    try:
        with tarfile.open(path) as tar:
            first = tar.next()
    except (tarfile.TarError, OSError, EOFError):
        return False
    return first is not None and first.name == LIST


def _add_media(tar: tarfile.TarFile, folder: Path, links: list[Path]) -> int:
    """Returns the number of files."""
    count = 0
    for path in _files(folder.resolve(), links) if folder.is_dir() else ():
        with suppress(FileNotFoundError):  # it was deleted meanwhile
            tar.add(path, f"media/{path.relative_to(folder.resolve())}")
            count += 1
    return count


def _files(path: Path, links: list[Path]) -> Iterator[Path]:
    """Yields a file, or the regular files below a folder. Names that begin with a dot are of unfinished files.

    links: gets the links, which are not followed: they may lead anywhere.
    """
    if path.is_symlink():
        links.append(path)
        return
    if path.is_file():
        yield path
    for root, folders, names in os.walk(path):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for file in (Path(root, name) for name in (*folders, *sorted(names)) if not name.startswith(".")):
            if file.is_symlink():
                links.append(file)
            elif file.is_file():
                yield file


def _copy(path: Path, copy: Path) -> bool:
    """Copies a file to one with mode 0600, as it is at one moment. A SQLite file may be written to meanwhile.

    Returns False if the file does not exist any more. Raises StoreUnusable.
    """
    copy.unlink(missing_ok=True)
    copy.touch(mode=0o600)
    try:
        with path.open("rb") as file:
            database = file.read(len(_SQLITE)) == _SQLITE
        if not database:
            shutil.copyfile(path, copy)
            return True
        with closing(sqlite3.connect(path, timeout=_LOCK_WAIT)) as source, closing(sqlite3.connect(copy)) as target:
            source.backup(target)
    except FileNotFoundError:
        return False
    except (OSError, sqlite3.Error) as error:
        raise StoreUnusable(f"{path} cannot be copied: {error}") from None
    return True
