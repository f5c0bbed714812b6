"""The example of docs/extending.md: an output in a folder of its own, in the API, the metrics and the log."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.clients import push, until
from tests.support.gateway import Gateway, running
from tests.support.installed_output import install
from tests.support.media import Film
from tests.support.time_outs import at_most
from tests.support.tools import need

FILM = Film("installed-output", seconds=30, gop=90)  # key frames three seconds apart


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    need("ffmpeg")
    FILM.path()
    with running(PYTHONPATH=str(install(tmp_path_factory.mktemp("site")))) as instance:
        yield instance


def test_the_api_lists_the_example_output_with_its_description(gateway: Gateway) -> None:
    found = {output["name"]: output for output in gateway.api("GET", "/outputs").json()}
    assert {"watermark", "codec", "relay", "kvs", "video", "image", "ondemand", "motion"} < found.keys()
    example = found["gopcheck"]
    assert (example["flag"], example["label"]["en"]) == ("isGopCheck", "Key frame check")
    limit = next(field for field in example["fields"] if field["name"] == "gop_limit")
    assert (limit["type"], limit["default"], limit["minimum"], limit["maximum"]) == ("number", 4, 0.5, 60)
    fields = gateway.api("GET", "/openapi.json").json()["components"]["schemas"]["ChannelChanges"]["properties"]
    assert {"isGopCheck", "gop_limit"} <= fields.keys()


def test_fields_of_the_example_output_are_checked(gateway: Gateway) -> None:
    channel = gateway.channel("fields")
    refused = gateway.api("PUT", f"/videostream/{channel.id}", {"gop_limit": "70"})
    assert refused.status == 400 and "0.5 to 60" in refused.text
    assert gateway.api("PUT", f"/videostream/{channel.id}", {"isGopCheck": "true", "gop_limit": "7"}).status == 200


def test_the_example_output_watches_a_push_and_reports_on_it(gateway: Gateway) -> None:
    channel = gateway.channel("watched", isGopCheck=True, gop_limit=1)

    def status() -> dict[str, object]:
        return next((o for o in channel.session()["outputs"] if o["name"] == "gopcheck"), {})

    with push(FILM, channel.push):
        channel.wait_live()
        until(lambda: status().get("longestGop") == 3.0, "three seconds between key frames", 30)
        assert (status()["enabled"], status()["state"]) == (True, "running")
        assert 'millrace_outputs{output="gopcheck",state="running"} 1' in gateway.api("GET", "/metrics").text
    until(lambda: "key frames are rare" in gateway.log, "the warning")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("raise RuntimeError('too old')", "gop_check:OUTPUT does not load: RuntimeError: too old"),
        ("OUTPUT = 1", "gop_check:OUTPUT is not an OutputDescriptor"),
        (
            "from gateway.channels.fields import Flag\n"
            "from gateway.outputs.descriptor import OutputDescriptor, OutputField\n"
            "OUTPUT = OutputDescriptor(name='x', flag='isFlv', make=print, fields={'isFlv': OutputField(Flag(), {})})",
            "output 'x': there is a channel field 'isFlv' already",
        ),
        (
            "from gateway.outputs.descriptor import OutputDescriptor\n"
            "OUTPUT = OutputDescriptor(name='image', flag='isImage', make=print)",
            "two outputs are called 'image'",
        ),
    ],
    ids=["does not load", "is something else", "brings a field that is there", "has a name that is there"],
)
def test_an_unusable_output_gives_a_one_line_error(text: str, words: str, tmp_path: Path) -> None:
    package = tmp_path / "package" / "gop_check"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(text)
    site = tmp_path / "site"
    site.mkdir()
    with pytest.raises(AssertionError) as ended, running(PYTHONPATH=str(install(site, package=tmp_path / "package"))):
        pass
    assert f"the gateway ended with 2: millrace: millrace.outputs: {words}" in str(ended.value)
    assert "Traceback" not in str(ended.value)


def test_several_processes_log_the_error_of_an_output_once(tmp_path: Path) -> None:
    package = tmp_path / "package" / "gop_check"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('too old')")
    (site := tmp_path / "site").mkdir()
    path = str(install(site, package=tmp_path / "package"))
    with pytest.raises(AssertionError) as ended, running(PYTHONPATH=path, MILLRACE_SERVE__WORKERS="2"):
        pass
    words = "gop_check:OUTPUT does not load: RuntimeError: too old"
    assert f"the gateway ended with 2: millrace: millrace.outputs: {words}" in str(ended.value)
    assert str(ended.value).count("too old") == 1


def test_the_command_line_checks_the_fields_of_the_example_output(tmp_path: Path) -> None:
    (site := tmp_path / "site").mkdir()
    env = {**os.environ, "PYTHONPATH": str(install(site)), "MILLRACE_DATA": str(tmp_path)}
    env["MILLRACE_CHANNELS"] = f"sqlite:///{tmp_path}/channels.db"
    command = [sys.executable, "-m", "gateway", "channel", "create", "--expires", "2035-12-31", "--field"]
    told = subprocess.run([*command, "gop_limit=99"], env=env, capture_output=True, text=True, timeout=at_most(60))
    assert told.returncode == 2 and "0.5 to 60" in told.stderr and "Traceback" not in told.stderr, told.stderr
    told = subprocess.run([*command, "gop_limit=9"], env=env, capture_output=True, text=True, timeout=at_most(60))
    assert told.returncode == 0, told.stderr
