"""A service that decides about pushes and plays, by the name of the stream."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl

from tests.support.time_outs import at_most


@dataclass
class HookService:
    """A running service. answers: by name, the status with a header `Location` or a body; other names get 403.

    asked: the fields of each question, in their order. silent: names whose questions get no answer.
    """

    url: str = ""
    answers: dict[str, tuple[int, str]] = field(default_factory=dict)
    silent: set[str] = field(default_factory=set)
    asked: list[dict[str, str]] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)

    def names(self) -> list[str]:
        return [fields.get("name", fields.get("stream", "")) for fields in self.asked]


@contextlib.contextmanager
def hook_service() -> Iterator[HookService]:
    service = HookService()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            text = self.rfile.read(int(self.headers["Content-Length"])).decode()
            is_json = self.headers["Content-Type"] == "application/json"
            fields = json.loads(text) if is_json else dict(parse_qsl(text, keep_blank_values=True))
            service.asked.append(fields)
            name = fields["stream" if is_json else "name"]
            if name in service.silent:
                service.released.wait(at_most(60))
            status, text = service.answers.get(name, (403, ""))
            self.send_response(status)
            body = b"" if 300 <= status < 400 else text.encode()
            if 300 <= status < 400:
                self.send_header("Location", text)
            self.send_header("Content-Length", str(len(body)))
            with contextlib.suppress(ConnectionError):  # the client may have given up
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    service.url = f"http://127.0.0.1:{server.server_address[1]}/auth"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield service
    finally:
        service.released.set()
        server.shutdown()
        server.server_close()
        thread.join()
