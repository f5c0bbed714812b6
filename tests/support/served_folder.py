"""A web server of a folder, for what fetches files by HTTP."""

import contextlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@contextlib.contextmanager
def served_folder(folder: Path, host: str = "127.0.0.1") -> Iterator[int]:
    """Yields the port of a server at an address of this machine."""
    with ThreadingHTTPServer((host, 0), partial(SimpleHTTPRequestHandler, directory=folder)) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()
