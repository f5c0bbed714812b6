"""Connections that can be cut, delayed and throttled: Shopify's toxiproxy, driven by its HTTP API."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.harness import paths
from bench.harness.procs import BenchError, Process, free_port
from tests.support.gateway import http

_MODULE = "github.com/Shopify/toxiproxy/v2/cmd/server@v2.5.0"


def program() -> Path:
    """Returns the program: $BENCH_TOXIPROXY, or built with Go on first use."""
    if given := os.environ.get("BENCH_TOXIPROXY"):
        return Path(given)
    built = paths.BUILD / "toxiproxy" / "server"
    if not built.exists():
        built.parent.mkdir(parents=True, exist_ok=True)
        go = next((one for one in ("/usr/local/go/bin/go", "/usr/bin/go") if Path(one).exists()), "go")
        try:
            done = subprocess.run(
                [go, "install", _MODULE], env={**os.environ, "GOBIN": str(built.parent)}, capture_output=True, text=True
            )
        except OSError as error:
            raise BenchError(f"toxiproxy needs Go, or its program in BENCH_TOXIPROXY: {error}") from None
        if done.returncode:
            raise BenchError(f"toxiproxy cannot be built: {done.stderr[-300:]}")
    return built


class Toxiproxy:
    """A running toxiproxy. Use `toxiproxy()`."""

    def __init__(self, port: int) -> None:
        self._port = port

    def _send(self, method: str, path: str, body: Any = None) -> Any:
        reply = http(method, f"http://127.0.0.1:{self._port}{path}", body=body)
        if reply.status >= 300:
            raise BenchError(f"toxiproxy: {method} {path}: {reply.status} {reply.text[:200]}")
        return json.loads(reply.body) if reply.body else None

    def open(self, name: str, port: int) -> int:
        """Returns a new port that leads to a port."""
        body = {"name": name, "listen": "127.0.0.1:0", "upstream": f"127.0.0.1:{port}", "enabled": True}
        return int(self._send("POST", "/proxies", body)["listen"].rpartition(":")[2])

    def enable(self, name: str, enabled: bool) -> None:
        """Closes all connections and refuses new ones, or accepts them again."""
        self._send("POST", f"/proxies/{name}", {"enabled": enabled})

    def poison(self, name: str, kind: str, **attributes: int) -> None:
        """Adds a toxic in both directions: timeout (0: data vanish), latency (ms), bandwidth (kB/s)."""
        for stream in ("upstream", "downstream"):
            body = {"name": stream, "type": kind, "stream": stream, "attributes": attributes}
            self._send("POST", f"/proxies/{name}/toxics", body)

    def heal(self, name: str) -> None:
        """Removes the toxics of `poison`."""
        for stream in ("upstream", "downstream"):
            self._send("DELETE", f"/proxies/{name}/toxics/{stream}")


@contextlib.contextmanager
def toxiproxy() -> Iterator[Toxiproxy]:
    port = free_port()
    command = [program(), "-host", "127.0.0.1", "-port", str(port)]
    process = Process("toxiproxy", command, cwd=paths.PROJECT, log=paths.LOGS / "toxiproxy.log")
    try:
        process.wait_listening(port)
        yield Toxiproxy(port)
    finally:
        process.stop(2)
