"""The real Caddy and nginx with the files of `deploy`, in front of one gateway. Only ports and names differ."""

from __future__ import annotations

import contextlib
import os
import re
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.authority import Authority
from tests.support.clients import Program, until
from tests.support.free_ports import free_ports
from tests.support.gateway import Channel, Gateway
from tests.support.nginx_rtmp import is_listening
from tests.support.tools import need

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
SITE, CONSOLE = "localhost", "console.localhost"
# What an operator sets in Millrace: the addresses of the proxy, and that TLS ends there.
SETTINGS = {f"MILLRACE_{name}__FORWARDED_FROM": "127.0.0.1/32" for name in ("HTTP", "WS", "ADMIN")}
SETTINGS |= {"MILLRACE_TLS__IN_FRONT": "true"}
_NGINX = """
daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log info;
events {{ worker_connections 256; }}
http {{ client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s; include {folder}/millrace.conf; }}
"""


@dataclass(frozen=True)
class WebProxy:
    """A running proxy. http, https: its ports. authority: of its certificate."""

    gateway: Gateway
    http: int
    https: int
    authority: Path

    def url(self, channel: Channel, path: str) -> str:
        return f"https://{SITE}:{self.https}/{channel.id}/{path}"

    def tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.authority))


@contextlib.contextmanager
def _running(command: list[str], port: int, env: dict[str, str]) -> Iterator[None]:
    with Program(command, env={**os.environ, **env}) as program:

        def listening() -> bool:
            assert program.running, f"{command[0]} ended: {program.output}{program.errors}"
            return is_listening(port)

        until(listening, f"{command[0]} listens")
        yield


@contextlib.contextmanager
def nginx(gateway: Gateway, folder: Path) -> Iterator[WebProxy]:
    """Runs `deploy/nginx/millrace.conf`. nginx has a certificate of an authority of its own."""
    need("nginx")
    authority = Authority(folder)
    certificate, key = authority.files(SITE, CONSOLE)
    http, https = free_ports(2, "127.0.0.1")
    text = (DEPLOY / "nginx" / "millrace.conf").read_text()
    ports = {"8080": "http", "8081": "ws", "8000": "admin"}
    text = re.sub(r"127\.0\.0\.1:(\d+)", lambda found: f"127.0.0.1:{gateway.ports[ports[found[1]]]}", text)
    text = re.sub(r"    listen \[::\].*\n", "", text)
    text = text.replace("listen 80;", f"listen 127.0.0.1:{http};").replace("listen 443 ", f"listen 127.0.0.1:{https} ")
    text = re.sub(r"(ssl_certificate +)\S+;", rf"\1{certificate};", text)
    text = re.sub(r"(ssl_certificate_key +)\S+;", rf"\1{key};", text)
    text = text.replace("live.example.com", SITE).replace("console.example.com", CONSOLE)
    folder.chmod(0o755)
    (folder / "millrace.conf").write_text(text)
    (folder / "nginx.conf").write_text(_NGINX.format(folder=folder))
    with _running(["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf")], https, {}):
        yield WebProxy(gateway, http, https, authority.file)


@contextlib.contextmanager
def caddy(gateway: Gateway, folder: Path) -> Iterator[WebProxy]:
    """Runs `deploy/caddy/Caddyfile`. For these names, Caddy has an authority of its own. CADDY: another program."""
    program = os.environ.get("CADDY", "caddy")
    need(program)
    http, https = free_ports(2, "127.0.0.1")
    options = f"admin off\nhttp_port {http}\nhttps_port {https}\nskip_install_trust\ndefault_bind 127.0.0.1"
    (folder / "Caddyfile").write_text(f"{{\n{options}\n}}\nimport {DEPLOY / 'caddy' / 'Caddyfile'}\n")
    env = {f"MILLRACE_{name.upper()}_PORT": str(gateway.ports[name]) for name in ("http", "ws", "admin")}
    env |= {"MILLRACE_SITE": SITE, "MILLRACE_CONSOLE": CONSOLE, "HOME": str(folder)}
    env |= {name: str(folder / "caddy") for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME")}
    command = [program, "run", "--adapter", "caddyfile", "--config", str(folder / "Caddyfile")]
    with _running(command, https, env):
        authority = folder / "caddy" / "caddy" / "pki" / "authorities" / "local" / "root.crt"
        until(authority.exists, "Caddy has an authority")
        yield WebProxy(gateway, http, https, authority)
