"""Let's Encrypt's test authority, pebble, with a DNS in which every name is this machine."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.authority import Authority
from tests.support.free_ports import free_ports
from tests.support.gateway import http
from tests.support.time_outs import at_most
from tests.support.tools import need


@dataclass(frozen=True)
class Pebble:
    """A running authority. ca: signs its own web server; the value for `tls.ca`."""

    directory: str
    ca: Path
    ports: dict[str, int]
    dns: str
    roots: str = ""  # the address of the certificate that signs the certificates of gateways
    log: Path = Path("pebble.log")

    @property
    def issued(self) -> int:
        """The number of certificates that it has issued."""
        return self.log.read_text(errors="replace").count("Issued certificate serial")

    def settings(self, *names: str) -> dict[str, str]:
        """The settings of a gateway that asks it. The authority checks the gateway's ports of HTTP and HTTPS."""
        return {
            "MILLRACE_TLS__ACME": ",".join(names),
            "MILLRACE_TLS__ACME_DIRECTORY": self.directory,
            "MILLRACE_TLS__CA": str(self.ca),
            "MILLRACE_HTTP__PORT": str(self.ports["http"]),
            "MILLRACE_HTTPS__PORT": str(self.ports["https"]),
            "MILLRACE_RTMPS__PORT": "0",
            "MILLRACE_WSS__PORT": "0",
        }

    def resolve(self, name: str, *addresses: str) -> None:
        """Changes the addresses of a name; none: the name has no address."""
        if addresses:
            http("POST", f"{self.dns}/add-a", body={"host": f"{name}.", "addresses": addresses})
        else:
            http("POST", f"{self.dns}/set-servfail", body={"host": f"{name}."})


@contextmanager
def running_pebble(
    folder: Path, valid_seconds: int = 86_400, refused_nonces: int = 20, standard_ports: bool = False
) -> Iterator[Pebble]:
    """Runs pebble. refused_nonces: percentage of correct nonces that it refuses, as authorities sometimes do.

    standard_ports: it checks ports 80 and 443.
    """
    need("pebble", "pebble-challtestsrv")
    listen, manage, http_port, https_port, dns, dns_manage = free_ports(6)
    if standard_ports:
        http_port, https_port = 80, 443
    authority = Authority(folder)
    cert, key = authority.files("localhost", "127.0.0.1")
    config = {
        "listenAddress": f"127.0.0.1:{listen}",
        "managementListenAddress": f"127.0.0.1:{manage}",
        "certificate": str(cert),
        "privateKey": str(key),
        "httpPort": http_port,
        "tlsPort": https_port,
        "ocspResponderURL": "",
        "externalAccountBindingRequired": False,
        "certificateValidityPeriod": valid_seconds,
    }
    (folder / "pebble.json").write_text(json.dumps({"pebble": config}))
    env = {**os.environ, "PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": str(refused_nonces)}
    env["PEBBLE_AUTHZREUSE"] = "0"
    names = ["pebble-challtestsrv", "-dns01", f"127.0.0.1:{dns}", "-management", f"127.0.0.1:{dns_manage}"]
    names += ["-http01", "", "-https01", "", "-tlsalpn01", "", "-defaultIPv4", "127.0.0.1", "-defaultIPv6", ""]
    pebble = ["pebble", "-config", str(folder / "pebble.json"), "-dnsserver", f"127.0.0.1:{dns}"]
    with (folder / "pebble.log").open("wb") as log:
        processes = [subprocess.Popen(command, env=env, stdout=log, stderr=log) for command in (names, pebble)]
        try:
            for port in (listen, dns_manage):
                _wait_open(port, folder)
            ports = {"http": http_port, "https": https_port}
            yield Pebble(
                f"https://localhost:{listen}/dir",
                authority.file,
                ports,
                f"http://127.0.0.1:{dns_manage}",
                f"https://localhost:{manage}/roots/0",
                folder / "pebble.log",
            )
        finally:
            for process in processes:
                process.kill()
                process.wait()


def _wait_open(port: int, folder: Path) -> None:
    end = time.monotonic() + at_most(20)
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            if time.monotonic() > end:
                raise AssertionError((folder / "pebble.log").read_text()) from None
            time.sleep(0.05)
