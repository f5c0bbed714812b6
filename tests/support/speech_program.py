"""A program that stands for a speech engine: `speech_program.py <mode> [file]`. It says a text for each second.

dies: it ends after two seconds of sound. hangs: it reads no more after one second. floods: it writes a hundred lines
for each second, every tenth too long. slow: it reads half as fast as the sound comes, until the file exists.
"""

import json
import sys
import time
from pathlib import Path

BYTES = 32_000  # a second of sound


def say(text: str, second: int, final: bool = True) -> None:
    print(json.dumps({"text": text, "from": second + 0.1, "to": second + 0.9, "final": final}), flush=True)


def main(mode: str, file: str = "") -> int:
    second = 0
    while sound := sys.stdin.buffer.read(BYTES if mode != "slow" else BYTES // 10):
        if mode == "slow":
            time.sleep(0 if Path(file).exists() else 0.2)
            continue
        say(f"perhaps {second}", second, final=False)
        for n in range(100 if mode == "floods" else 0):
            say(f"flood {n}" + "d" * (5_000 if n % 10 == 0 else 0), second)
        say(f"second {second} {'silence' if not any(sound) else 'sound'}", second)
        second += 1
        if mode == "dies" and second == 2:
            print("the model is broken", file=sys.stderr)
            return 3
        if mode == "hangs":
            time.sleep(1_000)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
