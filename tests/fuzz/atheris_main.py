"""Runs one target under atheris, which is no dependency: `python tests/fuzz/atheris_main.py TARGET -max_total_time=60`.

What follows the target is libFuzzer's. Inputs are kept in build/fuzz/TARGET unless a folder is among the arguments; the
target's seeds are added to them.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def main(arguments: list[str]) -> int:
    """Returns only where nothing can be run; libFuzzer ends the process."""
    sys.path.insert(0, str(ROOT))
    from tests.fuzz.targets import NAMES

    if not arguments or arguments[0] not in NAMES:
        print(f"usage: atheris_main.py TARGET [libFuzzer arguments]\ntargets: {' '.join(NAMES)}", file=sys.stderr)
        return 2
    try:
        import atheris  # type: ignore[import-untyped]
    except ImportError:
        print("atheris is not installed: pip install atheris (`make fuzz` runs without it)", file=sys.stderr)
        return 2
    with atheris.instrument_imports(include=["gateway"]):
        from gateway.lib import log
        from tests.fuzz.targets import target

        found = target(arguments[0])
    log.configure("error")
    options = arguments[1:]
    folders = [Path(option) for option in options if not option.startswith("-")]
    if not folders:
        folders = [ROOT / "build" / "fuzz" / found.name]
        options.append(str(folders[0]))
    folders[0].mkdir(parents=True, exist_ok=True)
    if not any(option.startswith("-artifact_prefix=") for option in options):
        options.append(f"-artifact_prefix={folders[0]}-")
    for seed in found.seeds:
        (folders[0] / hashlib.sha1(seed, usedforsecurity=False).hexdigest()).write_bytes(seed)
    atheris.Setup([sys.argv[0], *options], found.fuzz)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
