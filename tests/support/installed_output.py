"""Installs the example output of docs/extending.md for one gateway."""

from pathlib import Path

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "examples" / "gop_check"


def install(folder: Path, *, package: Path = EXAMPLE, name: str = "gop_check") -> Path:
    """Creates in `folder` what `pip install docs/examples/gop_check` installs: package and entry points.

    Returns `folder`, for PYTHONPATH.
    """
    (folder / name).symlink_to(package / name)
    info = folder / f"millrace_{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: millrace-{name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[millrace.outputs]\n{name} = {name}:OUTPUT\n")
    return folder
