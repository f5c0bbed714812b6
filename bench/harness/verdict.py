"""The end of a bench that counts losses: its result in a file and as a table, its faults, and its exit status."""

import asyncio
import json
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from bench.harness.procs import BenchError

Result = dict[str, Any]


def conclude(
    measured: Coroutine[Any, Any, Result],
    faults: Callable[[Result], list[str]],
    table: Callable[[Result], str],
    no_fault: str,
    file: Path | None,
) -> int:
    """Measures, and prints the table and the faults. Returns the exit status: 1 with faults, 2 if it was impossible.

    no_fault: the line without faults. file: for the result with its `faults`, as JSON.
    """
    try:
        result = asyncio.run(measured)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    result["faults"] = faults(result)
    if file:
        file.write_text(json.dumps(result, indent=1))
    print(table(result))
    print("\n".join(result["faults"]) or no_fault)
    return 1 if result["faults"] else 0
