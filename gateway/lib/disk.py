"""Opens files without blocking the loop, makes changes of a folder durable, and names network file systems."""

import asyncio
import os
import re
from pathlib import Path
from typing import BinaryIO, Final, Literal

from gateway.lib.tasks import finished

_MOUNTS: Final = Path("/proc/self/mountinfo")
_NETWORK: Final = re.compile(
    r"nfs4?|cifs|smb3|smbfs|9p|afs|ceph|lustre|fuse\.(?:sshfs|s3fs|rclone|goofys|glusterfs|ceph|mount-s3|gcsfuse)"
)


def network_file_system(path: Path) -> str:
    """Returns the type of the network file system that a path is on; "" for another one. Blocks."""
    try:
        lines = _MOUNTS.read_text("utf-8", "replace").splitlines()
        path = path.resolve()
    except OSError:
        return ""  # not Linux
    deepest, kind = 0, ""
    for line in lines:  # proc(5): …, mount point as the fifth, …, -, type, …; the last of equal mount points is on top
        before, _, after = line.partition(" - ")
        fields, types = before.split(), after.split()
        if len(fields) < 5 or not types:
            continue
        point = Path(re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[4]))
        if path.is_relative_to(point) and len(point.parts) >= deepest:
            deepest, kind = len(point.parts), types[0]
    return kind if _NETWORK.fullmatch(kind) else ""


async def open_file(path: Path, mode: Literal["rb", "wb"]) -> BinaryIO:
    """Opens a file in a thread. Raises OSError."""

    def opened() -> BinaryIO:
        return path.open(mode)

    return await finished(asyncio.to_thread(opened), close_file)


def close_file(file: BinaryIO | None) -> None:
    """Closes a file that was opened for a caller that is gone."""
    if file is not None:
        file.close()


def sync_folder(folder: Path) -> None:
    """Makes renames in the folder durable. Blocks. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
