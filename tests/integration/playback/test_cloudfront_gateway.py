"""A gateway signs CloudFront addresses and serves clients that have them; the command signs in the same way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.parse
from pathlib import Path

from tests.support.clients import push
from tests.support.cloudfront import Signer
from tests.support.gateway import FAR, http, running
from tests.support.media import Film
from tests.support.time_outs import at_most

FILM = Film("cloudfront-10", seconds=10)


def test_signed_addresses_play_and_others_are_refused(tmp_path: Path) -> None:
    key = Signer()
    pem = tmp_path / "private.pem"
    pem.write_text(key.private_pem)
    settings = {
        "MILLRACE_PLAYBACK__AUTH": "cloudfront",
        "MILLRACE_CLOUDFRONT__PUBLIC_KEYS": f"K1={key.write_public(tmp_path / 'public.pem')}",
        "MILLRACE_CLOUDFRONT__KEY_PAIR_ID": "K1",
        "MILLRACE_CLOUDFRONT__PRIVATE_KEY": str(pem),
    }
    with running(**settings) as gateway:
        channel = gateway.channel()
        base = f"http://127.0.0.1:{gateway.ports['http']}"
        said = gateway.api("POST", f"/videostream/{channel.id}/cloudfront", {"url": "hls"}).json()
        url = said["url"]
        path = url.removeprefix(base)
        # The pull address is this machine's name for its network, and the verifier takes the host of the request.
        headers = {"Host": urllib.parse.urlsplit(url).netloc}
        with push(FILM, channel.push):
            channel.wait_live()
            at = f"{base}{urllib.parse.urlsplit(path).path}"
            channel._wait(lambda: _get(at, url, headers)[0] == 200, "playable", 20)
            _status, text = _get(at, url, headers)
            (segment, *_) = [line for line in text.splitlines() if ".ts" in line]
            assert "Policy=" in segment and "Signature=" in segment
            assert http("GET", f"{base}/{channel.id}/{segment}", headers=headers).status == 200
            assert http("GET", at, headers=headers).status == 403
            cookie = "; ".join(f"{name}={value}" for name, value in said["cookies"].items())
            assert http("GET", at, headers={**headers, "Cookie": cookie}).status == 200
        env = {k: v for k, v in os.environ.items() if not k.startswith("MILLRACE_")} | settings
        env |= {"MILLRACE_DATA": str(gateway.data), "MILLRACE_PLAYBACK__PUBLIC_URL": "https://live.example.com"}
        command = [sys.executable, "-m", "gateway", "cloudfront", "sign", channel.id, "--expires", FAR, "--json"]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=at_most(30))
        assert done.returncode == 0, done.stderr
        expected = f"https://live.example.com/{channel.id}/live.m3u8?"
        assert json.loads(done.stdout)["url"].startswith(expected)


def _get(at: str, url: str, headers: dict[str, str]) -> tuple[int, str]:
    reply = http("GET", f"{at}?{urllib.parse.urlsplit(url).query}", headers=headers)
    return reply.status, reply.text
