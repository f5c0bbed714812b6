"""Makes changes of a folder durable."""

import os
from pathlib import Path


def sync_folder(folder: Path) -> None:
    """Makes renames in the folder durable. Blocks. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
