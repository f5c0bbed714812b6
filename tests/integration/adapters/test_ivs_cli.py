"""The command `millrace ivs` creates channels at IVS and relays channels of this gateway to them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

from gateway.__main__ import main
from tests.support.ivs import KEY, IvsApi, ivs_api

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def api(aws: str, monkeypatch: pytest.MonkeyPatch, tmp_path) -> Iterator[IvsApi]:  # type: ignore[no-untyped-def]
    with ivs_api(aws) as api:
        monkeypatch.setenv("AWS_ENDPOINT_URL_IVS", api.url)
        monkeypatch.setenv("MILLRACE_DATA", str(tmp_path / "var"))
        monkeypatch.setenv("MILLRACE_SIGNING__SECRET", "cli-secret-of-the-tests")
        yield api


@pytest.fixture
def millrace(api: IvsApi, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(list(arguments))
        out, err = capsys.readouterr()
        return code, out, err

    return run


def created(millrace: Run, **fields: str) -> str:
    more = [x for name, value in fields.items() for x in ("--field", f"{name}={value}")]
    return str(json.loads(millrace("channel", "create", "--expires", "2090-01-01", "--json", *more)[1])["id"])


def stored(millrace: Run, id: str) -> dict[str, object]:
    return dict(json.loads(millrace("channel", "show", id, "--json")[1]))


def test_a_channel_is_made_and_its_key_shown_once(millrace: Run) -> None:
    code, out, err = millrace("ivs", "create", "--name", "cam-1", "--type", "BASIC", "--json")
    made = json.loads(out)
    assert (code, err, made["streamKey"], made["type"]) == (0, "", KEY, "BASIC")
    code, out, _ = millrace("ivs", "show", made["arn"])
    assert code == 0 and KEY not in out and made["playbackUrl"] in out and "rtmps://" in out
    assert made["arn"] in millrace("ivs", "list")[1]
    assert [c["arn"] for c in json.loads(millrace("ivs", "list", "--json")[1])] == [made["arn"]]
    assert millrace("ivs", "delete", made["arn"])[:2] == (0, f"deleted {made['arn']}\n")
    assert json.loads(millrace("ivs", "list", "--json")[1]) == []


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "{arn}"),
        ("rtmp://a.example/app/k", "rtmp://a.example/app/********,{arn}"),
        ('["rtmp://a.example/app/k"]', ["rtmp://a.example/app/********", "{arn}"]),
    ],
)
def test_a_channel_is_relayed_to_its_ivs_channel_until_that_is_deleted(
    millrace: Run, before: str, after: object
) -> None:
    id = created(millrace, **({"relayURL": before} if before else {}))
    code, out, _ = millrace("ivs", "create", "--name", "cam", "--channel", id)
    assert code == 0 and KEY in out and f"from channel {id}" in out
    arn = out.split()[1]
    item = stored(millrace, id)
    assert item["relayURL"] == json.loads(json.dumps(after).replace("{arn}", arn))
    assert (item["isRelay"], item["ivsChannelArn"]) == (True, arn) and item["ivsPlaybackUrl"]
    assert millrace("ivs", "delete", arn, "--channel", id)[0] == 0
    item = stored(millrace, id)
    assert arn not in str(item) and item["isRelay"] is bool(before)


def test_a_mistake_gives_a_one_line_error(millrace: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def line(code: int, *arguments: str) -> str:
        got, out, err = millrace(*arguments)
        assert (got, out, err.count("\n")) == (code, "", 1), (got, out, err)
        return err

    assert "expected the ARN of an IVS channel" in line(2, "ivs", "show", "x")
    assert "there is no such channel" in line(1, "ivs", "show", "arn:aws:ivs:eu-central-1:123456789012:channel/x")
    assert "no channel nobody" in line(1, "ivs", "create", "--name", "x", "--channel", "nobody")
    assert json.loads(millrace("ivs", "list", "--json")[1]) == [], "nothing was made for a channel that is not there"
    full = created(millrace, relayURL=",".join(f"rtmp://a.example/app/{n}" for n in range(16)))
    assert "at most 16" in line(2, "ivs", "create", "--name", "x", "--channel", full)
    assert millrace("ivs", "create", "--name", "x", "--type", "GOLD")[0] == 2
    monkeypatch.delenv("AWS_REGION")
    assert "no region" in line(1, "ivs", "list")
