"""The files of the console in the package, each with its content type, its hash and a compressed form."""

from __future__ import annotations

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
_PACKED: Final = ("html", "js", "css", "json", "webmanifest", "svg")
_MIN_PACKED_BYTES: Final = 860  # a shorter body fits one packet anyway
_PART: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}", re.ASCII)
_MAX_PARTS: Final = 8
_IMPORT_MAP: Final = re.compile(rb"""<script\s+type=["']?importmap["']?\s*>(.*?)</script>""", re.S | re.I)


class Asset:
    """One file.

    tag: a hash of its content.
    packed: the content as gzip; None if that is not smaller.
    inline: the hash sources for a Content-Security-Policy, one for each import map in the page.
    """

    __slots__ = ("data", "inline", "kind", "packed", "suffix", "tag")

    def __init__(self, name: str, data: bytes) -> None:
        self.data = data
        self.suffix = name.rpartition(".")[2]
        self.kind = TYPES[self.suffix]
        self.tag = hashlib.sha256(data).hexdigest()[:24]
        packed = gzip.compress(data, 6 if len(data) < 100_000 else 4, mtime=0) if self._worth_packing() else data
        self.packed: bytes | None = packed if len(packed) < len(data) else None
        maps = _IMPORT_MAP.findall(data) if self.suffix == "html" else ()
        self.inline = tuple(f"'sha256-{base64.b64encode(hashlib.sha256(one).digest()).decode()}'" for one in maps)

    def unchanged(self, tags: str) -> bool:
        """Whether a client with this If-None-Match has the file (RFC 9110 §13.1.2). `*` matches any file."""
        return self.tag in tags or tags.strip() == "*"

    def _worth_packing(self) -> bool:
        return self.suffix in _PACKED and len(self.data) >= _MIN_PACKED_BYTES


class Assets:
    """The files below `gateway/console` by their path there, such as `players/flv.js`. Each is read at its first
    request.

    The vendored files of the players are also found beside the players (`players/hls.min.js`), which import them from
    there. A file that is edited in a checkout is read again.
    """

    def __init__(self, root: Traversable | None = None) -> None:
        self._root = root if root is not None else resources.files("gateway") / "console"
        self._ready: dict[str, tuple[int, Asset]] = {}
        vendor = self._root / "vendor"
        folders = [f for f in vendor.iterdir() if f.is_dir()] if vendor.is_dir() else []
        self._vendored = {file.name: file for folder in folders for file in folder.iterdir() if file.is_file()}

    def names(self, folder: str, suffix: str) -> frozenset[str]:
        """Returns the names of the files in one folder that end with `suffix`."""
        place = self._root / folder
        found = place.iterdir() if place.is_dir() else ()
        return frozenset(file.name for file in found if file.name.endswith(suffix) and file.is_file())

    def ready(self, path: str) -> Asset | None:
        """Returns the loaded file if it has not changed since. None does not mean that the file is missing."""
        held = self._ready.get(path)
        if held is None:
            return None
        file = self._find(path)
        return held[1] if file is not None and _changed(file) == held[0] else None

    async def load(self, path: str) -> Asset | None:
        """Returns the file; None if there is none. If necessary, reads and compresses it in a thread."""
        asset = self.ready(path)
        if asset is not None:
            return asset
        file = self._find(path)
        if file is None:
            return None
        changed = _changed(file)
        asset = await asyncio.to_thread(lambda: Asset(file.name, file.read_bytes()))
        self._ready[path] = (changed, asset)
        return asset

    def _find(self, path: str) -> Traversable | None:
        parts = path.split("/")
        if len(parts) > _MAX_PARTS or parts[-1].rpartition(".")[2] not in TYPES:
            return None
        if not all(_PART.fullmatch(part) for part in parts):
            return None  # no path out of the folder, no hidden file
        file = self._root.joinpath(*parts)
        if file.is_file():
            return file
        return self._vendored.get(parts[1]) if parts[0] == "players" and len(parts) == 2 else None


def _changed(file: Traversable) -> int:
    """Returns the modification time in nanoseconds; 0 if the package is not a folder."""
    return file.stat().st_mtime_ns if isinstance(file, Path) else 0
