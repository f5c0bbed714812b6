"""The console files in the package, each with its content type, its hash and a compressed form."""

import asyncio
import base64
import gzip
import hashlib
import re
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Final

TYPES: Final = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "json": "application/json",
    "webmanifest": "application/manifest+json",
    "svg": "image/svg+xml",
    "png": "image/png",
    "woff2": "font/woff2",
}
_COMPRESSED: Final = ("html", "js", "css", "json", "webmanifest", "svg")
_MIN_COMPRESSED: Final = 860  # bytes; a smaller body fits into one packet
_PART: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}", re.ASCII)
_MAX_PARTS: Final = 8
_IMPORT_MAP: Final = re.compile(rb"""<script\s+type=["']?importmap["']?\s*>(.*?)</script>""", re.S | re.I)


class Asset:
    """One file.

    kind: the content type. tag: a hash of the content.
    packed: the content as gzip; None if that is not smaller.
    inline: hash sources for a Content-Security-Policy, one for each import map in the page.
    """

    __slots__ = ("data", "inline", "kind", "packed", "suffix", "tag")

    def __init__(self, name: str, data: bytes) -> None:
        self.data = data
        self.suffix = name.rpartition(".")[2]
        self.kind = TYPES[self.suffix]
        self.tag = hashlib.sha256(data).hexdigest()[:24]
        compressible = self.suffix in _COMPRESSED and len(data) >= _MIN_COMPRESSED
        packed = gzip.compress(data, 6 if len(data) < 100_000 else 4, mtime=0) if compressible else data
        self.packed = packed if len(packed) < len(data) else None
        maps = _IMPORT_MAP.findall(data) if self.suffix == "html" else ()
        hashes = (base64.b64encode(hashlib.sha256(import_map).digest()).decode() for import_map in maps)
        self.inline = tuple(f"'sha256-{text}'" for text in hashes)

    def unchanged(self, tags: str) -> bool:
        """Whether a client has the file (RFC 9110 §13.1.2). tags: its If-None-Match; `*` matches any file."""
        return self.tag in tags or tags.strip() == "*"


class Assets:
    """The files in `gateway/console` by their path there, such as `players/flv.js`. Each is read at its first request.

    The vendored files of the players also have paths beside the players (`players/hls.min.js`), because the players
    import them from there. If a file changes in a checkout, it is read again.
    """

    def __init__(self, root: Traversable | None = None) -> None:
        self._root = root if root is not None else resources.files("gateway") / "console"
        self._loaded: dict[str, tuple[int, Asset]] = {}
        vendor = self._root / "vendor"
        folders = [f for f in vendor.iterdir() if f.is_dir()] if vendor.is_dir() else []
        self._vendored = {file.name: file for folder in folders for file in folder.iterdir() if file.is_file()}

    def names(self, folder: str, suffix: str) -> frozenset[str]:
        """Returns the names of the files in one folder that end with `suffix`."""
        directory = self._root / folder
        files = directory.iterdir() if directory.is_dir() else ()
        return frozenset(file.name for file in files if file.name.endswith(suffix) and file.is_file())

    def ready(self, path: str) -> Asset | None:
        """Returns the file if it is loaded and has not changed. After None, call `load`: the file may exist."""
        modified, asset = self._loaded.get(path, (0, None))
        file = self._find(path) if asset is not None else None
        return asset if file is not None and _modified(file) == modified else None

    async def load(self, path: str) -> Asset | None:
        """Returns the file; None if it does not exist. If necessary, a thread reads and compresses it."""
        asset = self.ready(path)
        if asset is not None:
            return asset
        file = self._find(path)
        if file is None:
            return None
        modified = _modified(file)
        asset = await asyncio.to_thread(lambda: Asset(file.name, file.read_bytes()))
        self._loaded[path] = (modified, asset)
        return asset

    def _find(self, path: str) -> Traversable | None:
        parts = path.split("/")
        if len(parts) > _MAX_PARTS or parts[-1].rpartition(".")[2] not in TYPES:
            return None
        if not all(_PART.fullmatch(part) for part in parts):
            return None  # the path leaves the folder or names a hidden file
        file = self._root.joinpath(*parts)
        if file.is_file():
            return file
        return self._vendored.get(parts[1]) if parts[0] == "players" and len(parts) == 2 else None


def _modified(file: Traversable) -> int:
    """Returns the modification time in nanoseconds; 0 if the package is not a folder."""
    return file.stat().st_mtime_ns if isinstance(file, Path) else 0
