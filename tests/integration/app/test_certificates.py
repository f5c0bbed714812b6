"""New certificate files are used at once, and nobody is cut: real ffmpeg, openssl and WebSocket clients stay."""

from __future__ import annotations

import asyncio
import signal
import ssl
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection, connect

from tests.integration.app.test_acme import certificate, events, shown
from tests.support.at_night import at_night
from tests.support.authority import Authority
from tests.support.clients import pull, push, take_of, until
from tests.support.gateway import running
from tests.support.media import Film, judge
from tests.support.time_outs import at_most
from tests.support.tools import need

FILM = Film("certificates-20", seconds=20)


class Files:
    """The files of a certificate, as certbot keeps them: links to the newest pair."""

    def __init__(self, folder: Path) -> None:
        self._authority = Authority(folder)
        self.cert, self.key = folder / "fullchain.pem", folder / "privkey.pem"
        self.replace()

    def pair(self) -> tuple[bytes, bytes]:
        cert, key = self._authority.files("127.0.0.1", "localhost")
        return cert.read_bytes(), key.read_bytes()

    def replace(self) -> None:
        cert, key = self.pair()
        self.cert.write_bytes(cert)
        self.key.write_bytes(key)

    def settings(self) -> dict[str, str]:
        ports = {f"MILLRACE_{name}__PORT": "0" for name in ("HTTPS", "RTMPS", "WSS")}
        files = {"MILLRACE_TLS__CERT": str(self.cert), "MILLRACE_TLS__KEY": str(self.key)}
        return {**files, **ports, "MILLRACE_ADMIN__TLS": "false"}


async def opened(url: str, tls: ssl.SSLContext) -> ClientConnection:
    return await connect(url, ssl=tls)


async def answers(page: ClientConnection) -> None:
    async with asyncio.timeout(at_most(10)):
        await (await page.ping())


@pytest.mark.parametrize("workers", [2, *at_night(1)])
def test_nobody_is_cut_when_the_certificate_changes(tmp_path: Path, workers: int) -> None:
    need("openssl")
    files = Files(tmp_path)
    # The page's loop runs only while it is asked. Threads may not share a connection of OpenSSL.
    settings = {**files.settings(), "MILLRACE_WS__PING_INTERVAL": "0", "MILLRACE_SERVE__WORKERS": str(workers)}
    with running(**settings) as gateway, ExitStack() as stack:
        channel, ports = gateway.channel(), gateway.ports
        secure = {name: ports[name] for name in ("https", "rtmps", "wss")}
        item = channel.item
        assert item["pushUrl"].startswith(f"rtmps://127.0.0.1:{ports['rtmps']}/")
        publisher = stack.enter_context(push(FILM, item["pushUrl"]))
        channel.wait_playable("live.m3u8")
        viewers = [
            stack.enter_context(pull(item["playUrls"][name], seconds=None)) for name in ("flv", "rtmp", "hls", "cmaf")
        ]
        until(lambda: (v := channel.session()["viewers"])["flv"] and v["rtmp"], "viewers are connected")
        other = gateway.channel("browser").item
        runner = stack.enter_context(asyncio.Runner())
        page = runner.run(opened(other["wsUrl"], files._authority.client()))
        stack.callback(lambda: runner.run(page.close()))
        held = ["openssl", "s_client", "-quiet", "-connect", f"127.0.0.1:{secure['https']}"]
        pipe = subprocess.PIPE
        raw = stack.enter_context(subprocess.Popen(held, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL))

        serial = shown(secure["https"]).serial_number
        files.replace()
        for port in secure.values():
            until(lambda: {shown(port).serial_number for _ in range(8)}.isdisjoint({serial}), "it is presented")  # noqa: B023
        assert events(gateway, "certificate.renewed")

        runner.run(answers(page))
        assert raw.stdin is not None and raw.stdout is not None
        raw.stdin.write(b"GET /healthcheck HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        raw.stdin.flush()
        assert raw.stdout.read().endswith(b"OK")
        raw.wait(10)
        publisher.wait()
        gateway.api("DELETE", f"/videostream/{channel.id}/session")
        for viewer in viewers:
            judge(take_of(viewer), FILM)
        assert publisher.process.returncode == 0, publisher.errors


def test_a_broken_pair_is_refused_with_one_line_and_the_old_one_stays(tmp_path: Path) -> None:
    files = Files(tmp_path)
    with running(**files.settings()) as gateway:
        port = gateway.ports["https"]
        serial = shown(port).serial_number
        old = files.key.read_bytes()
        files.cert.write_bytes(files.pair()[0])  # its key does not follow
        reason = until(lambda: certificate(gateway)["error"], "the pair is refused")
        assert reason == f"the new certificate is not used: tls.cert: {files.cert}: key values mismatch"
        files.key.write_bytes(b"no key")
        until(lambda: gateway.log.count('"event":"certificate failed"') == 2, "each new state is reported once")
        assert shown(port).serial_number == serial
        assert len(events(gateway, "certificate.failed")) == 2

        files.key.write_bytes(old)
        files.replace()
        gateway.process.send_signal(signal.SIGHUP)
        until(lambda: shown(port).serial_number != serial, "the new pair is used")
        assert certificate(gateway)["error"] is None
        metrics = gateway.api("GET", "/metrics").text
        left = next(line for line in metrics.splitlines() if line.startswith("millrace_certificate_expiry_seconds "))
        assert 0 < float(left.split()[1]) <= 2 * 86_400
