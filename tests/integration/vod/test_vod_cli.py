"""The command `millrace vod` at a terminal: exit codes, one-line errors, Ctrl-C, and remaining files."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.support import films
from tests.support.at_night import at_night
from tests.support.children import children
from tests.support.clients import recorded, vlc
from tests.support.command_line import run
from tests.support.cores import alive
from tests.support.served_folder import served_folder
from tests.support.studio import package_workers
from tests.support.time_outs import at_most
from tests.support.tools import need

ROOT = Path(__file__).resolve().parents[3]
# MILLRACE_ variables of the user who runs the tests must not reach the command.
PLAIN = {k: v for k, v in os.environ.items() if not k.startswith(("MILLRACE_", "AWS_"))}
PLAIN["MILLRACE_VOD__PRESET"] = "superfast"
ENVIRONMENT = PLAIN | {"PYTHONPATH": str(ROOT)}  # of a command that starts as users start it


def short() -> Path:
    """A film of one second."""
    return films.plain(seconds=1)


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "gateway", "vod", *map(str, arguments)]


def vod(*arguments: str | Path, cwd: Path | None = None, **environ: str) -> subprocess.CompletedProcess[str]:
    return run("vod", *map(str, arguments), env=PLAIN | environ, folder=cwd or Path.cwd())


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_film_becomes_a_folder_with_its_name(tmp_path: Path) -> None:
    done = vod(short(), "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(tmp_path / "out/plain/plain.m3u8")
    assert names(tmp_path / "out") == {"plain"}
    assert names(tmp_path / "out/plain") == {
        "plain.m3u8", "plainstream.m3u8", "plainstream_00001.ts", "plain.0000000.jpg", "thumbnail.0000000.jpg",
    }  # fmt: skip
    assert done.stderr.splitlines()[-1] == "100 %"
    assert films.probe(tmp_path / "out/plain/plain.m3u8")["video"]["codec_name"] == "h264"


def test_the_json_option_prints_the_finished_job(tmp_path: Path) -> None:
    done = vod(short(), "--out", tmp_path, "--json")
    job = json.loads(done.stdout)
    assert (job["state"], job["progress"], job["error"]) == ("COMPLETE", 100, None)
    assert {name: Path(path).is_file() for name, path in job["outputs"].items()} == dict.fromkeys(
        ("hls", "poster", "thumbnail"), True
    )


def test_what_of_the_film_is_missing_is_said(tmp_path: Path) -> None:
    done = vod(films.twice(), "--out", tmp_path, "--json")
    assert (done.returncode, json.loads(done.stdout)["warning"]) == (0, films.LEFT_OUT)
    assert done.stderr.splitlines()[-1].endswith(f"twice.mkv: warning: {films.LEFT_OUT}")


def test_relative_paths_are_printed_as_relative_paths(tmp_path: Path) -> None:
    (tmp_path / "a.v1.mp4").write_bytes(short().read_bytes())
    done = vod("a.v1.mp4", "--out", "there", cwd=tmp_path)
    assert done.stdout.strip() == "there/a.v1/a.v1.m3u8"


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [("text.mp4", b"hello there, no film\n", "text"), ("cut.mp4", None, "incomplete"), ("none.mp4", b"", "empty")],
)
def test_a_file_that_is_not_a_film_gives_a_one_line_error(
    name: str, data: bytes | None, words: str, tmp_path: Path
) -> None:
    whole = short().read_bytes()
    source = films.scratch_file(name, whole[: len(whole) // 2] if data is None else data)
    failed = vod(source, "--out", tmp_path / "out")
    assert failed.returncode == 1 and failed.stdout == ""
    assert len(failed.stderr.splitlines()) == 1 and words in failed.stderr and "Traceback" not in failed.stderr
    assert not (tmp_path / "out").exists()


def test_a_failed_job_is_printed_as_json_with_its_reason(tmp_path: Path) -> None:
    failed = vod(films.scratch_file("text.mp4", b"hello there, no film\n"), "--out", tmp_path, "--json")
    job = json.loads(failed.stdout)
    assert (failed.returncode, job["state"], job["error"]) == (1, "ERROR", "it is text, not media")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["a.mp4"], "--out"),
        (["a", "--out", "x"], "extension"),
        ([], "FILE|s3://"),
        (["a.mp4", "--nonsense"], "nonsense"),
        (["https://example.com/a.mp4", "--out", "x"], "no address of the web"),
    ],
)
def test_a_wrong_argument_gives_exit_code_2(arguments: list[str], words: str, tmp_path: Path) -> None:
    failed = vod(*arguments, cwd=tmp_path)
    assert failed.returncode == 2 and words.lower() in failed.stderr.lower() and "Traceback" not in failed.stderr


def test_a_missing_file_gives_exit_code_1(tmp_path: Path) -> None:
    failed = vod("nothing.mp4", "--out", "x", cwd=tmp_path)
    assert (failed.returncode, failed.stderr) == (1, "millrace: nothing.mp4: No such file or directory\n")


def test_an_error_of_the_output_folder_names_this_folder(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("a file")
    failed = vod(short(), "--out", tmp_path / "notes.txt" / "out")
    assert failed.returncode == 1
    assert failed.stderr == f"millrace: {short()}: {tmp_path / 'notes.txt/out'}: Not a directory\n"


def test_too_little_memory_gives_an_error_without_waiting(tmp_path: Path) -> None:
    large = films.silent("large.mp4", "testsrc2=size=1920x1080:rate=30", *films.H264, seconds=1)
    failed = vod(large, "--out", tmp_path / "out", "--set", "vod.memory=120000000")
    assert failed.returncode == 1 and len(failed.stderr.splitlines()) <= 2
    assert "memory" in failed.stderr and not (tmp_path / "out").exists()


def test_an_earlier_film_is_replaced_completely(tmp_path: Path) -> None:
    long = films.long()
    (tmp_path / "film.mp4").write_bytes(long.read_bytes())
    assert vod("film.mp4", "--out", "out", cwd=tmp_path).returncode == 0
    assert "filmstream_00003.ts" in names(tmp_path / "out/film")
    (tmp_path / "film.mp4").write_bytes(short().read_bytes())
    assert vod("film.mp4", "--out", "out", cwd=tmp_path).returncode == 0
    assert "filmstream_00002.ts" not in names(tmp_path / "out/film")
    assert names(tmp_path / "out") == {"film"}


def test_a_folder_with_other_files_is_not_overwritten(tmp_path: Path) -> None:
    """An example is `--out ~` with a film called Documents.mp4."""
    precious = tmp_path / "plain" / "thesis.txt"
    precious.parent.mkdir()
    precious.write_text("years of work")
    failed = vod(short(), "--out", tmp_path)
    assert failed.returncode == 1 and "not overwritten" in failed.stderr
    assert precious.read_text() == "years of work" and names(tmp_path) == {"plain"}


def test_ctrl_c_ends_the_worker_and_leaves_no_files(tmp_path: Path) -> None:
    slow = films.silent("slow.mkv", "testsrc2=size=640x360:rate=30", *films.H264, seconds=12)
    process = subprocess.Popen(
        command(slow, "--out", tmp_path / "out"),
        env=ENVIRONMENT | {"MILLRACE_VOD__PRESET": "slow"},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    assert process.stderr.readline().endswith("%\n")  # at work
    workers = children(parent=process.pid)
    process.send_signal(signal.SIGINT)
    assert process.wait(at_most(20)) == 130
    assert "canceled" in process.stderr.read()
    process.stderr.close()
    assert not (tmp_path / "out").exists()
    assert workers and not [pid for pid in workers if alive(pid)] and package_workers() == []


def test_a_killed_command_also_ends_its_worker(tmp_path: Path) -> None:
    slow = films.silent("slow.mkv", "testsrc2=size=640x360:rate=30", *films.H264, seconds=12)
    process = subprocess.Popen(
        command(slow, "--out", tmp_path / "out"),
        env=ENVIRONMENT | {"MILLRACE_VOD__PRESET": "slow"},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    process.stderr.readline()
    workers = children(parent=process.pid)
    process.kill()
    process.wait(at_most(20))
    process.stderr.close()
    end = time.monotonic() + at_most(10)
    while any(alive(pid) for pid in workers) and time.monotonic() < end:
        time.sleep(0.05)
    assert workers and not [pid for pid in workers if alive(pid)]
    assert not (tmp_path / "out/slow").exists()  # no unfinished file has the film's name


def test_the_next_command_removes_the_files_of_a_killed_one(tmp_path: Path) -> None:
    left = tmp_path / ".millrace-vod-999999-abc"
    ours = tmp_path / f".millrace-vod-{os.getpid()}-abc"
    for folder in (left, ours):
        folder.mkdir()
    assert vod(short(), "--out", tmp_path).returncode == 0
    assert names(tmp_path) == {"plain", ours.name}


def test_a_terminal_shows_a_progress_bar(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command(short(), "--out", tmp_path), stderr=theirs, stdout=subprocess.DEVNULL, env=ENVIRONMENT
    )
    os.close(theirs)
    shown = b""
    try:
        while data := os.read(ours, 4096):
            shown += data
    except OSError:  # the other end is closed
        pass
    os.close(ours)
    assert process.wait(at_most(60)) == 0
    assert b"\r[" in shown and b"100 %" in shown


def test_mediaconvert_json_prints_a_job_and_creates_no_files(tmp_path: Path) -> None:
    done = vod(
        "s3://in/films/my.v1.clip.mp4", "--out", "s3://out/vod", "--mediaconvert-json", cwd=tmp_path,
        ROLE_ARN="arn:aws:iam::111122223333:role/r", QUEUE_ARN="arn:aws:mediaconvert:eu-west-1:111122223333:queues/q",
        MEDIA_CONVERT_ENDPOINT_URL="https://abc.mediaconvert.eu-west-1.amazonaws.com",
    )  # fmt: skip
    job = json.loads(done.stdout)
    assert done.returncode == 0
    assert (job["Role"], job["Queue"]) == (
        "arn:aws:iam::111122223333:role/r", "arn:aws:mediaconvert:eu-west-1:111122223333:queues/q",
    )  # fmt: skip
    assert job["Settings"]["Inputs"][0]["FileInput"] == "s3://in/films/my.v1.clip.mp4"
    destinations = [
        next(v for k, v in group["OutputGroupSettings"].items() if k != "Type")["Destination"]
        for group in job["Settings"]["OutputGroups"]
    ]
    assert destinations == ["s3://out/vod/my.v1.clip/"] * 2 + ["s3://out/vod/my.v1.clip/thumbnail"]
    assert "https://abc.mediaconvert" in done.stderr
    assert names(tmp_path) == set()


def test_mediaconvert_without_out_writes_beside_the_film() -> None:
    done = vod("s3://in/films/a.mp4", "--mediaconvert-json")
    assert '"Destination": "s3://in/films/a/"' in done.stdout
    assert "ROLE_ARN is not set" in done.stderr and "Role" not in json.loads(done.stdout)


def test_a_bucket_without_aws_gives_a_one_line_error(tmp_path: Path) -> None:
    failed = vod(
        "s3://in/a.mp4", "--out", tmp_path / "x", AWS_CONFIG_FILE="/dev/null", AWS_EC2_METADATA_DISABLED="true"
    )
    assert failed.returncode == 1 and len(failed.stderr.splitlines()) == 1 and "AWS" in failed.stderr


def test_limits_apply_on_the_command_line_and_can_be_disabled(tmp_path: Path) -> None:
    bounded = ("--set", "vod.film_seconds=2", "--set", "vod.output_bytes=0", "--set", "vod.output_ratio=0.001")
    failed = vod(films.plain(), "--out", tmp_path / "out", *bounded)
    assert failed.returncode == 1 and not (tmp_path / "out").exists()
    assert len(failed.stderr.splitlines()) == 1 and "vod.film_seconds" in failed.stderr
    failed = vod(films.plain(), "--out", tmp_path / "out", *bounded, "--set", "vod.film_seconds=0")
    assert failed.returncode == 1 and "vod.output_ratio" in failed.stderr
    done = vod(films.plain(), "--out", tmp_path / "out", *bounded, "--unbounded")
    assert done.returncode == 0, done.stderr


def test_the_command_without_arguments_shows_its_usage() -> None:
    alone = vod()
    assert alone.returncode == 2 and alone.stdout == ""
    assert alone.stderr.startswith("Usage: millrace vod") and "--out" in alone.stderr


NAMES = ("my film", "my-film", "100% #1?", "фильм", "a&b [c]", "clip(1)")


@pytest.mark.parametrize("name", [*NAMES[2:4], *at_night(*NAMES[:2], *NAMES[4:])])
def test_the_output_has_the_films_name_and_plays_by_http(name: str, tmp_path: Path) -> None:
    (tmp_path / f"{name}.mp4").write_bytes(short().read_bytes())
    done = vod(f"{name}.mp4", "--out", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"out/{name}/{name}.m3u8"
    with served_folder(tmp_path) as port:
        assert (
            int(films.probe(f"http://127.0.0.1:{port}/{quote(done.stdout.strip())}")["video"]["nb_read_frames"]) == 25
        )
    made = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*")}
    files = (f"{name}.m3u8", f"{name}stream.m3u8", f"{name}stream_00001.ts")
    pictures = (f"{name}.0000000.jpg", "thumbnail.0000000.jpg")
    assert made == {name, *(f"{name}/{file}" for file in (*files, *pictures))}


@pytest.mark.parametrize("name", ["a\nb.mp4", "a\\b.mp4", "..mp4"])
def test_a_name_that_cannot_be_a_path_of_the_store_is_refused(name: str, tmp_path: Path) -> None:
    refused = vod(name, "--out", "out", cwd=tmp_path)
    assert refused.returncode == 2 and not (tmp_path / "out").exists()
    assert len(refused.stderr.splitlines()) == 1 and "name" in refused.stderr


def test_the_output_plays_in_vlc_from_disk() -> None:
    need("cvlc", "runuser")
    with tempfile.TemporaryDirectory(prefix="millrace-vlc-vod-") as folder:  # below no folder of pytest's: all may read
        place = Path(folder)
        place.chmod(0o755)
        (place / "my film.mp4").write_bytes(films.plain().read_bytes())
        done = vod("my film.mp4", "--out", "out", cwd=place)
        for path in (place / "out").rglob("*"):
            path.chmod(0o755)
        with vlc(f"file://{place}/{quote(done.stdout.strip())}") as player:
            assert len(recorded(player, 2).video) > 40


def test_films_with_similar_names_do_not_replace_each_other(tmp_path: Path) -> None:
    made = set()
    for name in NAMES[:2]:
        (tmp_path / f"{name}.mp4").write_bytes(short().read_bytes())
        done = vod(f"{name}.mp4", "--out", "out", cwd=tmp_path)
        made.add(done.stdout.strip())
    assert "out/my-film/my-film.m3u8" in made and len(made) == len(names(tmp_path / "out")) == 2
