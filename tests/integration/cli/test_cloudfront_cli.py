"""`millrace cloudfront sign`: what it prints, and one line for every mistake."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from gateway.__main__ import main
from gateway.playback.cloudfront import CloudFrontVerifier
from tests.support.cloudfront import Signer
from tests.support.http import request

KEY = Signer()
HOST = "https://live.example.com"


@pytest.fixture
def key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Returns the options that name the key."""
    monkeypatch.setenv("MILLRACE_DATA", str(tmp_path / "var"))
    monkeypatch.setenv("MILLRACE_PLAYBACK__PUBLIC_URL", HOST)
    path = tmp_path / "key.pem"
    path.write_text(KEY.private_pem)
    return ["--key-pair-id", "K1", "--private-key", str(path)]


def judge(url: str, **headers: str) -> str | None:
    verifier = CloudFrontVerifier({"K1": KEY.public}, HOST, "")
    return verifier.judge(request(url.removeprefix(HOST), **headers), time.time())


def sign(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["cloudfront", "sign", *arguments]) == 0
    return capsys.readouterr().out.rstrip("\n")


def test_a_channel_is_signed_with_all_its_files(key: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    url = sign(capsys, "c1", "--expires", "2090-01-01", *key)
    assert url.startswith(f"{HOST}/c1/live.m3u8?Policy=") and judge(url) is None
    assert judge(url.replace("live.m3u8", "720p/1.ts")) is None
    assert judge(url.replace("/c1/", "/c2/")) is not None


def test_an_address_is_signed_by_either_policy(key: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    flv = f"{HOST}/c1/live.flv"
    canned = sign(capsys, flv, "--expires", "2090-01-01", "--policy", "canned", *key)
    assert "Expires=3786912000" in canned and judge(canned) is None
    wide = sign(capsys, flv, "--expires", "2090-01-01", "--resource", f"{HOST}/*", "--from", "2020-01-01", *key)
    assert judge(wide.replace("/c1/live.flv", "/c2/x.ts")) is None
    cookies = sign(capsys, flv, "--expires", "2090-01-01", "--cookies", "--ip", "192.0.2.0/24", *key).splitlines()
    assert [line.partition("=")[0] for line in cookies] == [
        "CloudFront-Policy", "CloudFront-Signature", "CloudFront-Key-Pair-Id",
    ]  # fmt: skip
    assert judge(flv, cookie="; ".join(cookies)) is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["not an id!", "--expires", "2090-01-01"], "an address or the id of a channel"),
        (["c1", "--expires", "soon"], "--expires soon"),
        (["c1", "--expires", "2090-01-01", "--from", "soon"], "--from soon"),
        (["c1", "--expires", "2090-01-01", "--ip", "x"], "ip: expected an IPv4"),
        (["c1", "--expires", "2090-01-01", "--policy", "canned", "--from", "2020-01-01"], "policy: a canned policy"),
        (["c1", "--expires", "2090-01-01", "--policy", "canned", "--resource", f"{HOST}/*"], "--resource"),
        (["rtmp://a/b", "--expires", "2090-01-01"], "url: expected an address"),
    ],
)
def test_a_mistake_gives_a_one_line_error(
    key: list[str], capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert main(["cloudfront", "sign", *arguments, *key]) == 2
    said = capsys.readouterr()
    assert words in said.err and said.err.count("\n") == 1 and said.out == ""


def test_a_missing_key_is_named(key: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["cloudfront", "sign", "c1", "--expires", "2090-01-01"]) == 2
    assert "--key-pair-id" in capsys.readouterr().err
    assert main(["cloudfront", "sign", "c1", "--expires", "2090-01-01", "--key-pair-id", "K1"]) == 2
    assert "--private-key" in capsys.readouterr().err
    assert main(["cloudfront", "sign", "c1", "--expires", "1", *key[:3], str(tmp_path / "none.pem")]) == 1
    assert "none.pem" in capsys.readouterr().err
