"""Opens files without blocking the loop, and makes changes of a folder durable."""

import asyncio
import os
from pathlib import Path
from typing import BinaryIO, Literal

from gateway.lib.tasks import finished


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
