"""Certificates by ACME: the real program against pebble, Let's Encrypt's test authority."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

import pytest
from acme import messages
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from josepy.jwk import JWKEC

from gateway.adapters.acme.acme_files import AcmeFiles
from gateway.adapters.acme.authority import Authority
from gateway.lib.certificates import Certificate, outgoing_tls
from tests.support.at_night import at_night
from tests.support.clients import pull, push, take_of, until
from tests.support.gateway import Edge, Gateway, running
from tests.support.media import Film, judge
from tests.support.pebble import Pebble, running_pebble
from tests.support.postgres import Postgres
from tests.support.time_outs import at_most

NAME = "live.example.com"
FILM = Film("acme-40", seconds=40)


@pytest.fixture
def pebble(tmp_path: Path) -> Iterator[Pebble]:
    with running_pebble(tmp_path) as authority:
        yield authority


def shown(port: int, name: str = NAME, protocols: list[str] | None = None, host: str = "127.0.0.1") -> x509.Certificate:
    """Returns the certificate that a port presents."""
    context = ssl._create_unverified_context()
    if protocols:
        context.set_alpn_protocols(protocols)
    with (
        socket.create_connection((host, port), timeout=at_most(10)) as plain,
        context.wrap_socket(plain, server_hostname=name) as tls,
    ):
        der = tls.getpeercert(binary_form=True)
    assert der is not None
    return x509.load_der_x509_certificate(der)


def names(certificate: x509.Certificate) -> list[str]:
    return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(
        x509.DNSName
    )


def certificate(gateway: Gateway) -> dict[str, object]:
    return gateway.api("GET", "/status").json()["certificate"]


def events(gateway: Gateway, type: str) -> list[dict[str, object]]:
    found = gateway.api("GET", f"/events?type={type}").json()
    return [event["data"] for event in (found["events"] if isinstance(found, dict) else found)]


def issued(gateway: Gateway, after: str = "") -> str:
    """Waits for a certificate that ends later than `after`, and returns its end."""
    return str(until(lambda: (end := certificate(gateway)["expires"]) and str(end) > after and end, "issued", 60))


def test_one_line_gets_a_certificate_and_every_shown_address_uses_it(pebble: Pebble) -> None:
    with running(**pebble.settings(NAME, "www.example.com")) as gateway:
        issued(gateway)
        for listener in ("https", "rtmps", "wss"):
            found = shown(gateway.ports[listener])
            assert set(names(found)) == {NAME, "www.example.com"}
            assert "Pebble" in found.issuer.rfc4514_string()
        assert certificate(gateway)["error"] is None
        assert events(gateway, "certificate.renewed")[0]["names"] == [NAME, "www.example.com"]
        folder = gateway.data / "acme"
        private = [folder, *(path for path in folder.rglob("*") if path.name != "lock")]
        assert {path.stat().st_mode & 0o077 for path in private} == {0}
        assert list((folder / "challenges").iterdir()) == []

        item, ports = gateway.channel().item, gateway.ports
        assert item["pushUrl"].startswith(f"rtmps://{NAME}:{ports['rtmps']}/stream/")
        assert item["wsUrl"].startswith(f"wss://{NAME}:{ports['wss']}/stream/")
        assert item["playUrls"]["flv"].startswith(f"https://{NAME}:{ports['https']}/")
        assert item["playUrls"]["wsflv"].startswith(f"wss://{NAME}:{ports['https']}/")
        assert item["playUrls"]["rtmp"].startswith(f"rtmps://{NAME}:{ports['rtmps']}/")


def test_browsers_are_sent_to_https_and_players_are_not(pebble: Pebble) -> None:
    with running(**pebble.settings(NAME)) as gateway:
        issued(gateway)
        browser = {"Upgrade-Insecure-Requests": "1"}
        assert redirect(gateway, "/x/?a=b", {"Host": NAME, **browser}) == (
            307,
            f"https://{NAME}:{gateway.ports['https']}/x/?a=b",
        )
        assert redirect(gateway, "/", {"Host": NAME})[0] == 200
        assert redirect(gateway, "/", {"Host": "elsewhere.example", **browser})[0] == 200


def redirect(gateway: Gateway, path: str, headers: dict[str, str]) -> tuple[int, str | None]:
    connection = HTTPConnection("127.0.0.1", gateway.ports["http"], timeout=at_most(10))
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.getheader("Location")
    finally:
        connection.close()


@pytest.mark.nightly
def test_a_gateway_whose_port_80_is_closed_proves_its_name_by_a_handshake(pebble: Pebble) -> None:
    with running(**pebble.settings(NAME) | {"MILLRACE_HTTP__PORT": "0"}) as gateway:
        reason = until(lambda: certificate(gateway)["error"], "the first challenge fails", 60)
        assert str(reason).startswith(f"port 80 of {NAME} is not reachable from the authority: ")
        assert certificate(gateway)["expires"] is None
        assert gateway.channel().item["playUrls"]["flv"].startswith("http://"), "clients cannot verify it yet"
        issued(gateway)
        failed = events(gateway, "certificate.failed")
        assert [event["reason"] for event in failed] == [reason]
        assert json.loads((gateway.data / "acme" / "attempts.json").read_text())["kind"] == "tls-alpn-01"


def test_every_process_answers_challenges_and_presents_the_certificate(pebble: Pebble) -> None:
    with running(**pebble.settings(NAME), MILLRACE_SERVE__WORKERS="3") as gateway:
        issued(gateway)
        for _ in range(2):  # all three load it within two seconds
            until(
                lambda: all("Pebble" in shown(gateway.ports["https"]).issuer.rfc4514_string() for _ in range(12)),
                "every process presents it",
            )


@pytest.mark.nightly
def test_a_certificate_is_renewed_at_two_thirds_of_its_life_while_viewers_stay(tmp_path: Path) -> None:
    with running_pebble(tmp_path, valid_seconds=20) as pebble, running(**pebble.settings(NAME)) as gateway:
        first = issued(gateway)
        channel = gateway.channel()
        with push(FILM, channel.push) as publisher:
            channel.wait_playable("live.m3u8")
            secure = f"https://127.0.0.1:{gateway.ports['https']}/{channel.id}/live.flv"
            with pull(secure, seconds=None) as viewer:
                until(lambda: channel.session()["viewers"]["flv"], "the viewer is connected")
                issued(gateway, after=issued(gateway, after=first))
                publisher.wait()
                judge(take_of(viewer), FILM)


def test_failures_are_told_and_never_stop_the_gateway(tmp_path: Path) -> None:
    with running_pebble(tmp_path) as pebble:
        pebble.resolve("nowhere.example.com")
        with running(**pebble.settings("nowhere.example.com")) as gateway:
            reason = until(lambda: certificate(gateway)["error"], "the name is not found", 60)
            assert "nowhere.example.com" in str(reason)
    away = pebble.settings(NAME)
    with running(**away) as gateway:
        reason = until(lambda: certificate(gateway)["error"], "the authority is away", 60)
        assert str(reason).startswith(f"the authority {pebble.directory} does not answer: ")
        channel = gateway.channel()
        assert channel.item["playUrls"]["flv"].startswith("http://"), "clients cannot verify it yet"
        with push(FILM, channel.push):
            channel.wait_live()
        assert names(shown(gateway.ports["https"])) == [NAME]


def test_strangers_get_nothing_from_challenges_and_delay_nobody(pebble: Pebble) -> None:
    with running(**pebble.settings(NAME), MILLRACE_LIMITS__PLAYBACK_PER_ADDRESS="0") as gateway:
        issued(gateway)
        port = gateway.ports["https"]
        root = "/.well-known/acme-challenge/"
        for odd in (
            "",
            "x",
            "../account.json",
            "%2e%2e%2faccount.json",
            "..%2f..%2fadmin.token",
            "a" * 5000,
            "%00",
            "é",
        ):
            status, _ = redirect(gateway, root + quote(odd, safe="/%."), {"Host": NAME})
            assert status in (400, 404), odd
        for server in (NAME, "other.example.com"):
            with pytest.raises(OSError):
                shown(port, server, ["acme-tls/1"])
        assert names(shown(port, "unknown.example.com")) == [NAME]
        with ExitStack() as stack:
            # These never send a whole hello.
            for _ in range(300):
                idle = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
                idle.sendall(b"\x16\x03\x01\x02\x00\x01")
            with ThreadPoolExecutor(8) as flood:
                refused = [flood.submit(shown, port, NAME, ["acme-tls/1"]) for _ in range(200)]
                assert names(shown(port)) == [NAME]
                assert all(isinstance(one.exception(30), OSError) for one in refused)


SHARED = {"MILLRACE_CLUSTER__SECRET": "what all nodes share", "MILLRACE_SIGNING__SECRET": "what keys are signed with"}


def requests_of(node: Gateway) -> int:
    return node.log.count("requesting a certificate")


def on(host: str) -> dict[str, str]:
    return {f"MILLRACE_{name}__HOST": host for name in ("RTMP", "HTTP", "WS")}


@pytest.mark.parametrize("check", [*at_night("http-01"), "tls-alpn-01"])
def test_machines_with_one_database_share_one_certificate(
    pebble: Pebble, postgres: Postgres, tmp_path: Path, check: str
) -> None:
    """Each name leads to another machine, so no machine could prove all names alone."""
    kinds = {"127.0.0.11": Gateway, "127.0.0.12": Gateway, "127.0.0.13": Edge}
    hosts = {host: f"{host.rpartition('.')[2]}.example.com" for host in kinds}
    database = postgres.new_database()
    shared = pebble.settings(*hosts.values()) | SHARED | {"MILLRACE_DATABASE": database}
    shared |= {"MILLRACE_HTTP__PORT": "0"} if check == "tls-alpn-01" else {}
    nodes: dict[str, Gateway] = {}
    try:
        for host, name in hosts.items():
            pebble.resolve(name, host)
            (tmp_path / host).mkdir()
            nodes[host] = kinds[host](tmp_path / host, **shared, **on(host))
        for node in nodes.values():
            node.wait_ready()

        def serials() -> set[int]:
            found = [shown(node.ports["https"], hosts[host], host=host) for host, node in nodes.items()]
            return {one.serial_number if "Pebble" in one.issuer.rfc4514_string() else 0 for one in found}

        until(lambda: 0 not in serials() and len(serials()) == 1, "all present one certificate", 60)
        assert pebble.issued == 1, "one machine asks for all"
        asked = sum(map(requests_of, nodes.values()))
        # A request fails while a machine of another name still starts.
        assert asked >= (1 if check == "http-01" else 2), "the first check of port 80 fails"
        copies = [(node.data / "acme" / "certificate.pem").read_text() for node in nodes.values()]
        assert len(set(copies)) == 1
        rows = postgres.sql("SELECT value FROM people WHERE kind LIKE 'acme-%'", database.rpartition("/")[2])
        assert rows and copies[0].splitlines()[1] not in rows and "example.com" not in rows

        (later := tmp_path / "later").mkdir()
        nodes["127.0.0.14"] = Gateway(later, **shared, **on("127.0.0.14"))
        hosts["127.0.0.14"] = hosts["127.0.0.11"]
        nodes["127.0.0.14"].wait_ready()
        until(lambda: 0 not in serials() and len(serials()) == 1, "a machine that joins presents it too", 20)
        assert requests_of(nodes["127.0.0.14"]) == 0 and pebble.issued == 1
    finally:
        for node in nodes.values():
            node.stop()


def test_without_a_secret_nothing_is_shared_and_the_log_says_so(pebble: Pebble, postgres: Postgres) -> None:
    database = postgres.new_database()
    with running(**pebble.settings(NAME), MILLRACE_DATABASE=database) as gateway:
        issued(gateway)
        assert gateway.log.count("the certificate is not shared with other machines: cluster.secret") == 1
        assert postgres.sql("SELECT count(*) FROM people WHERE kind LIKE 'acme-%'", database.rpartition("/")[2]) == "0"


def test_an_account_that_the_authority_does_not_know_is_made_again(pebble: Pebble, tmp_path: Path) -> None:
    files = AcmeFiles(tmp_path)
    files.prepare()
    key = JWKEC(key=ec.generate_private_key(ec.SECP256R1()))
    lost = pebble.directory.replace("/dir", "/my-account/lost")
    registration = messages.RegistrationResource(uri=lost, body=messages.Registration())
    files.save_account({"directory": pebble.directory, "key": key.to_json(), "registration": registration.to_json()})

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write((files.http_challenge(self.path.rpartition("/")[2]) or "").encode())

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", pebble.ports["http"]), Answers)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        authority = Authority(pebble.directory, "", files, outgoing_tls(pebble.ca), "test")
        pem = authority.obtain([NAME], "http-01")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    files.save_certificate(pem)
    assert Certificate.read(files.certificate, None).names.hosts == (NAME,)
    stored = files.account(pebble.directory)
    assert stored is not None and stored["registration"]["uri"] != lost
