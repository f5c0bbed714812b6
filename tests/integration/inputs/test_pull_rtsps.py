"""Cameras over TLS: GStreamer's RTSP server and our double. Only a trusted certificate is accepted."""

from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.channels.inputs import InputKind, InputSpec
from gateway.inputs.pull.pull_source import PullSource
from gateway.lib.certificates import outgoing_tls
from gateway.lib.egress import Egress
from gateway.media.track import Kind
from gateway.ports.errors import OutputError
from tests.integration.inputs.test_pull_rtsp import slices, source_of
from tests.support import films, sources
from tests.support.authority import Authority, self_signed
from tests.support.clients import Program
from tests.support.inputs import FakeInput, running_source, worker_pool
from tests.support.rtsp_camera import Camera
from tests.support.time_outs import at_most
from tests.support.tools import lacking

GST_CAMERA = Path(__file__).parents[3] / "bench" / "peers" / "gst_camera.py"
SYSTEM_PYTHON = "/usr/bin/python3"  # which has `gi`
GI = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import Gio, GstRtspServer; "
GI += "exit(not Gio.TlsBackend.get_default().supports_tls())"


def pull(url: str, tls: ssl.SSLContext | None) -> PullSource:
    services: Any = SimpleNamespace(egress=Egress(("127.0.0.0/8",)), tls=tls, workers=worker_pool())
    return PullSource(services, InputSpec("cam", InputKind.PULL, url=url))


async def fails(url: str, tls: ssl.SSLContext | None) -> str:
    with pytest.raises(OutputError) as caught:
        async with asyncio.timeout(at_most(30)):
            await pull(url, tls).run(FakeInput())
    return str(caught.value)


@pytest.mark.parametrize("algorithm", ["MD5", "SHA-256"])
async def test_pictures_and_a_password_are_sent_over_tls(algorithm: str, tmp_path: Path) -> None:
    authority, source, context = Authority(tmp_path), source_of(), FakeInput()
    tls = authority.server("127.0.0.1")
    async with Camera(source, password="s3cret-Passwort", algorithm=algorithm, tls=tls) as camera:
        assert camera.url.startswith("rtsps://admin:s3cret")
        async with running_source(pull(camera.url, authority.client()), context):
            await context.recorder.until(lambda: len(context.recorder.of(Kind.VIDEO)) > 20)
        assert all("s3cret" not in str(request) for request in camera.requests)
        setup = next(request for request in camera.requests if "Transport" in request.headers)
        assert setup.headers["Transport"] == "RTP/AVP/TCP;unicast;interleaved=0-1"
        wrong = camera.url.replace("s3cret-Passwort", "wr0ng-Passwort")
        words = await fails(wrong, authority.client())
        assert words == "the server wants a user name and a password, or they are wrong (401)"
    expected = [slices(u.payload) for u in source.of(Kind.VIDEO)]
    played = [slices(u.payload) for u in context.recorder.of(Kind.VIDEO)]
    assert played == expected[: len(played)]


async def test_only_a_trusted_certificate_is_accepted(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    async with Camera(source_of(), tls=authority.server("127.0.0.1")) as camera:
        assert (await fails(camera.url, None)).startswith("the server's certificate is not trusted: ")
        assert camera.requests == []
    async with Camera(source_of(), tls=authority.server("camera.example")) as camera:
        words = await fails(camera.url, authority.client())
        assert "certificate is not valid for '127.0.0.1'" in words


async def test_a_self_signed_certificate_is_accepted_from_the_configured_file(
    tmp_path: Path,
) -> None:
    certificate, key = self_signed(tmp_path, "127.0.0.1")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    context = FakeInput()
    async with Camera(source_of(), tls=tls) as camera:
        assert (await fails(camera.url, None)).startswith("the server's certificate is not trusted: ")
        async with running_source(pull(camera.url, outgoing_tls(certificate)), context):
            await context.recorder.until(lambda: context.recorder.of(Kind.VIDEO))


async def test_gstreamers_server_plays_over_tls_with_a_password(tmp_path: Path) -> None:
    if subprocess.run([SYSTEM_PYTHON, "-c", GI], check=False, capture_output=True).returncode:
        lacking("not installed: gir1.2-gst-rtsp-server-1.0, python3-gi or glib-networking")
    authority, context = Authority(tmp_path), FakeInput()
    both = tmp_path / "both.pem"
    both.write_bytes(b"".join(path.read_bytes() for path in authority.files("127.0.0.1")))
    film = films.plain("camera.mp4", 20, "-g", "25", "-bf", "0")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    secret = ("eva", "s3cret-Passwort")
    command = [SYSTEM_PYTHON, str(GST_CAMERA), str(film), str(port), str(both), *secret]
    url = f"rtsps://{':'.join(secret)}@127.0.0.1:{port}/cam"
    with Program(command) as camera:
        async with asyncio.timeout(at_most(30)):
            while "ready" not in camera.output:
                await asyncio.sleep(0.05)
        assert (await fails(url, None)).startswith("the server's certificate is not trusted: ")
        assert (await fails(url.replace("s3cret", "wr0ng"), authority.client())).endswith("they are wrong (401)")
        async with running_source(pull(url, authority.client()), context):
            await context.recorder.until(lambda: len(context.recorder.of(Kind.VIDEO)) > 40)
            await context.recorder.until(lambda: len(context.recorder.of(Kind.AUDIO)) > 40)
    expected = [slices(u.payload) for u in sources.read(film).of(Kind.VIDEO)]
    played = [slices(u.payload) for u in context.recorder.of(Kind.VIDEO)]
    assert played == expected[: len(played)]
