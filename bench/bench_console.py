"""How long the console's first view takes in Chromium on loopback.

    .venv/bin/python -m bench.bench_console [rounds]

Prints milliseconds from asking for the page to what a person looks for: the login in a browser that was never there,
and the list of channels, reloaded by somebody who is signed in (median and all rounds).
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from playwright.async_api import async_playwright

ROOT = Path(__file__).resolve().parents[1]
TOKEN = "bench-console-token"


async def measure(base: str, rounds: int) -> None:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        page = await browser.new_page()
        began = time.monotonic()
        await page.goto(base)
        await page.get_by_label("Token or password").wait_for()
        print(f"login, new browser: {(time.monotonic() - began) * 1000:.0f} ms")
        await page.get_by_label("Token or password").fill(TOKEN)
        await page.keyboard.press("Enter")
        channel = page.get_by_role("link", name="First channel").first
        await channel.wait_for()
        took = []
        for _ in range(rounds):
            began = time.monotonic()
            await page.reload(wait_until="commit")
            await channel.wait_for()
            took.append((time.monotonic() - began) * 1000)
        print(f"channels, reloaded: {statistics.median(took):.0f} ms ({', '.join(f'{ms:.0f}' for ms in took)})")
        await browser.close()


async def main(rounds: int) -> None:
    with tempfile.TemporaryDirectory() as data:
        ports = {f"MILLRACE_{name}__PORT": "0" for name in ("RTMP", "HTTP", "WS", "ADMIN")}
        gateway = subprocess.Popen(
            [sys.executable, "-m", "gateway", "serve", "--welcome"],
            env={**os.environ, **ports, "MILLRACE_DATA": data, "MILLRACE_ADMIN__TOKEN": TOKEN},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=ROOT,
        )
        try:
            async with asyncio.timeout(30):
                while not (Path(data) / "ports.json").exists():
                    await asyncio.sleep(0.05)
            admin = json.loads((Path(data) / "ports.json").read_text())["admin"]
            await measure(f"http://127.0.0.1:{admin}/", rounds)
        finally:
            gateway.send_signal(signal.SIGTERM)
            gateway.wait(30)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 9))
