"""The command line, as a process: what it prints, its exit codes, and one line for every mistake."""

import contextlib
import json
import os
import re
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer

from gateway import __version__, program
from gateway.cli.common import print_rows
from tests.support import command_line
from tests.support.time_outs import at_most
from tests.support.tools import need

ROOT = Path(__file__).resolve().parents[3]
ID = "70ef9b07-adbe-478d-b098-d7c8efd84a98"


@pytest.fixture
def millrace(tmp_path):
    """Runs a command on a data folder of its own. Without a command, `python -m gateway` runs as users start it."""

    def run(*args: str, **environ: str) -> subprocess.CompletedProcess[str]:
        env = {k: v for k, v in os.environ.items() if not k.startswith(("MILLRACE_", "AWS_"))}
        env |= {
            "MILLRACE_DATA": str(tmp_path / "var"),
            "MILLRACE_SIGNING__SECRET": "cli-secret-of-the-tests",
            "MILLRACE_RTMP__HOST": "127.0.0.1",
            "MILLRACE_HTTP__HOST": "127.0.0.1",
        }
        env |= {f"MILLRACE_{k}": v for k, v in environ.items()}
        if args and not args[0].startswith("-"):
            return command_line.run(*args, env=env, folder=tmp_path)
        env["PYTHONPATH"] = str(ROOT)
        command = [sys.executable, "-m", "gateway", *args]
        return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=at_most(60))

    return run


def line(done: subprocess.CompletedProcess[str], code: int) -> str:
    """The single line on stderr of a run that ended with `code` and printed nothing else."""
    assert (done.returncode, done.stdout) == (code, ""), done
    assert done.stderr.startswith("millrace: ")
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr.removeprefix("millrace: ").rstrip("\n")


@pytest.mark.parametrize("closed", ["2>&-", "<&- 2>&-", ">&-", ">&- 2>&-"])
def test_a_command_runs_without_its_standard_streams(tmp_path, closed: str):
    """Some programs that start others in the background close them. Files that are opened later get their numbers."""
    env = os.environ | {"PYTHONPATH": str(ROOT), "MILLRACE_DATA": str(tmp_path / "var")}
    command = f'exec "$0" -m gateway channel create --name Stage --expires never --json {closed}'
    done = subprocess.run(["sh", "-c", command, sys.executable], env=env, capture_output=True, timeout=at_most(60))
    assert (done.returncode, done.stdout.startswith(b"{")) == (0, not closed.startswith(">"))


def test_the_version_option_prints_the_version(millrace):
    done = millrace("--version")
    assert (done.returncode, done.stdout) == (0, f"millrace {__version__}\n")


def test_help_names_the_commands(millrace):
    done = millrace("--help")
    assert done.returncode == 0
    names = ("serve", "doctor", "check-config", "token", "status", "events", "kick", "channel", "sign", "verify", "vod")
    found = [done.stdout.index(f"\n  {name} ") for name in names]
    assert found == sorted(found), "the order of use"
    words = done.stdout.partition("Options:")[0]
    assert "SRTLA" in words.partition("Out:")[0] and "SRT," in words.partition("Out:")[2]
    assert all(word in done.stdout for word in ("WebRTC", "browser", "Examples:", "Documentation:"))
    assert millrace("-h").stdout == done.stdout
    assert "Print JSON." in millrace("channel", "list", "-h").stdout
    assert millrace("channel", "update", "x", "-h").returncode == 0


@pytest.mark.parametrize("group", ["", "channel", "user", "token", "ivs", "cloudfront", "storage"])
def test_the_line_of_a_command_in_a_help_is_a_whole_sentence(millrace, group):
    text = millrace(*([group] if group else []), "--help").stdout
    rows = re.findall(r"^  [a-z][a-z-]+  +(\S.*)$", text, re.MULTILINE)
    assert rows and [row for row in rows if not row.endswith(".") or row.endswith("...")] == []


def test_the_configuration_can_be_printed_as_json(millrace):
    done = millrace("check-config", "--json", "--set", "rtmp.port=1936")
    options = json.loads(done.stdout)
    assert (done.returncode, options["rtmp.port"]["value"]) == (0, 1936)
    assert options["signing.secret"] == {"value": "********", "source": "MILLRACE_SIGNING__SECRET"}
    assert options["http.port"] == {"value": 8080, "source": options["ws.port"]["source"]}


def test_bash_completes_commands_and_options(millrace, tmp_path):
    need("bash")
    script = millrace("completion", "bash")
    assert (script.returncode, script.stderr) == (0, "")
    (tmp_path / "millrace").write_text(
        f"#!{sys.executable}\nimport sys\nfrom gateway.__main__ import main\nsys.exit(main(sys.argv[1:]))\n"
    )
    (tmp_path / "millrace").chmod(0o755)
    (tmp_path / "script").write_text(script.stdout)

    def completed(*words: str) -> list[str]:
        listed = " ".join(f"'{word}'" for word in words)
        asked = (
            f"source {tmp_path}/script; COMP_WORDS=({listed}); COMP_CWORD={len(words) - 1}; "
            f"_millrace_completion {tmp_path}/millrace; printf '%s\\n' \"${{COMPREPLY[@]}}\""
        )
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(["bash", "-c", asked], env=env, capture_output=True, text=True, timeout=at_most(60))
        assert (done.returncode, done.stderr) == (0, ""), done
        return done.stdout.split()

    assert completed("millrace", "chan") == ["channel"]
    assert {"create", "list", "show"} <= set(completed("millrace", "channel", ""))
    assert completed("millrace", "channel", "create", "--exp") == ["--expires"]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_get_a_script_and_their_answers(millrace, shell):
    script = millrace("completion", shell)
    assert script.returncode == 0 and f"_MILLRACE_COMPLETE=complete_{shell}" in script.stdout
    env = {**os.environ, "PYTHONPATH": str(ROOT), "_MILLRACE_COMPLETE": f"complete_{shell}"}
    env |= {"_TYPER_COMPLETE_ARGS": "millrace chan", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    program = "from gateway.__main__ import main; main([])"
    done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, timeout=at_most(60))
    assert "channel" in done.stdout and "Manage channels" in done.stdout


def test_the_help_has_each_command_once():
    listed = typer.main.get_command(program.app).list_commands(None)
    registered = [
        command.name or command.callback.__name__.replace("_", "-") for command in program.app.registered_commands
    ]
    registered += [group.name for group in program.app.registered_groups]
    assert sorted(listed) == sorted(registered)


def test_commands_for_stores_and_keys_take_single_options(millrace, tmp_path):
    other = ("--set", f"channels=sqlite:///{tmp_path}/other.sqlite")
    id = json.loads(millrace("channel", "create", "--json", *other).stdout)["id"]
    assert millrace("channel", "list").stdout == ""
    assert id in millrace("channel", "list", *other).stdout
    secret = ("--set", "signing.secret=another-secret-of-the-tests")
    key = millrace("sign", "--id", ID, "--expires", "2099-01-01", *secret).stdout.strip()
    assert millrace("verify", "--id", ID, "--key", key).stdout == "wrong\n"
    assert millrace("verify", "--id", ID, "--key", key, *secret).stdout == "valid\n"
    assert millrace("user", "list", *other).returncode == 0


class TestSign:
    def test_sign_prints_only_the_key(self, millrace):
        done = millrace(
            "sign", "--id", ID, "--expires", "1670371200", "--algorithm", "md5", "--secret", "nodemedia2017privatekey"
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "1670371200-5db080c8cdca8764de881bc04e61e2b1\n", "")

    def test_dates_are_utc_and_the_configured_secret_signs(self, millrace):
        assert (
            millrace("sign", "--id", ID, "--expires", "2030-01-01").stdout
            == millrace("sign", "--id", ID, "--expires", "1893456000", "--secret", "cli-secret-of-the-tests").stdout
        )

    def test_verify_accepts_a_key_that_sign_made(self, millrace):
        key = millrace("sign", "--id", ID, "--expires", "2099-01-01", "--for", "play").stdout.strip()
        valid = millrace("verify", "--id", ID, "--key", key, "--for", "play")
        assert (valid.returncode, valid.stdout) == (0, "valid\n")
        wrong = millrace("verify", "--id", ID, "--key", key)
        assert (wrong.returncode, wrong.stdout) == (1, "wrong\n")

    @pytest.mark.parametrize(
        ("key", "verdict"),
        [("1670371200-5db080c8cdca8764de881bc04e61e2b1", "expired"), ("1670371200-0", "wrong"), ("", "wrong")],
    )
    def test_verify_exits_with_1_for_an_invalid_key(self, millrace, key, verdict):
        done = millrace("verify", "--id", ID, "--key", key, "--secret", "nodemedia2017privatekey")
        assert (done.returncode, done.stdout, done.stderr) == (1, f"{verdict}\n", "")

    def test_verify_takes_a_key_in_each_form_in_which_an_encoder_has_it(self, millrace):
        key = millrace("sign", "--id", ID, "--expires", "2099-01-01").stdout.strip()
        forms = (
            f"{ID}?sign={key}",
            f"rtmp://live.example.com:1935/stream/{ID}?sign={key}",
            f"rtmps://live.example.com/stream?sign={key}/{ID}",
            f"srt://live.example.com:8890?streamid=publish:{ID}?sign={key}&latency=400000",
            f"srt://live.example.com:8890?mode=caller&streamid=#!::r={ID},m=publish,sign={key}",
            f"srtla://live.example.com:5000?streamid=publish%3A{ID}%3Fsign%3D{key}",
            f"publish:{ID}?sign={key}",
            f"wss://live.example.com:8444/stream/{ID}?sign={key}",
            f"https://live.example.com/{ID}/whip?sign={key}",
            f" https://live.example.com/broadcast.html#{ID}?sign={key} ",
        )
        for form in forms:
            done = millrace("verify", "--key", form)
            assert (done.returncode, done.stdout, done.stderr) == (0, "valid\n", ""), form
        assert millrace("verify", "--id", ID, "--key", forms[0]).stdout == "valid\n"
        play = millrace("sign", "--id", ID, "--expires", "2099-01-01", "--for", "play").stdout.strip()
        rendition = ("--key", f"read:{ID}@720p?sign={play}", "--for", "play")
        assert millrace("verify", *rendition).stdout == "valid\n"
        watched = ("--key", f"https://live.example.com/stage/live.m3u8?sign={play}", "--for", "play")
        assert millrace("verify", "--id", ID, *watched).stdout == "valid\n"  # its address may have a readable name

    def test_verify_says_that_a_key_is_of_another_channel_or_names_none(self, millrace):
        key = millrace("sign", "--id", ID, "--expires", "2099-01-01").stdout.strip()
        other = millrace("verify", "--id", "hall", "--key", f"{ID}?sign={key}")
        assert (other.returncode, other.stdout) == (1, "wrong\n")
        assert other.stderr == f"millrace: the key is of the channel {ID}, not of hall\n"
        assert "--id" in line(millrace("verify", "--key", key), 2)
        assert "--id" in line(millrace("verify", "--key", f"https://x/stage/?sign={key}"), 2)
        assert "--id" in line(millrace("verify", "--key", "rtmp://[/x"), 2)

    def test_sign_uses_the_generated_secret_of_the_data_folder(self, millrace, tmp_path):
        first = millrace("sign", "--id", ID, "--expires", "2030-01-01", SIGNING__SECRET="")
        again = millrace("sign", "--id", ID, "--expires", "2030-01-01", SIGNING__SECRET="")
        assert first.stdout == again.stdout != ""
        assert (tmp_path / "var" / "signing.secret").exists()


class TestChannels:
    @pytest.mark.parametrize(
        ("field", "hint"), [("isHLS", "; did you mean isHls?"), ("nonsense", ""), ("key", ""), ("outdat", "")]
    )
    def test_an_unknown_field_is_refused(self, millrace, field, hint):
        refused = millrace("channel", "create", "--field", f"{field}=true")
        said = line(refused, 2)
        assert said.startswith(f"--field {field}: there is no such field") and said.endswith(hint)
        assert millrace("channel", "list").stdout == ""

    def test_the_date_is_in_a_year_unless_it_is_given_and_may_be_never(self, millrace):
        made = json.loads(millrace("channel", "create", "--json").stdout)
        assert 364 < (int(made["key"].partition("-")[0]) - time.time()) / 86_400 <= 365
        id = made["id"]
        never = json.loads(millrace("channel", "update", id, "--expires", "never", "--json").stdout)
        assert never["outdate"] == "9999-12-31" and never["key"].startswith("253402214400-")
        assert "  never  " in millrace("channel", "list").stdout
        signed = json.loads(millrace("channel", "sign", id, "--expires", "never", "--json").stdout)
        assert (signed["outdate"], signed["key"]) == ("9999-12-31", never["key"])

    def test_new_channels_have_ll_hls_unless_it_is_disabled(self, millrace):
        create = ("channel", "create", "--expires", "2099-12-31")
        made = json.loads(millrace(*create, "--json").stdout)
        assert made["isCMAF"] is made["isHls"] is True and made["playUrls"]["cmaf"].endswith("/master.m3u8")
        declined = json.loads(millrace(*create, "--field", "isCMAF=false", "--json").stdout)
        assert declined["isCMAF"] is False and "cmaf" not in declined["playUrls"]
        shown = millrace("channel", "show", made["id"]).stdout
        assert f"http://127.0.0.1:8080/{made['id']}/\n" in shown

    def test_a_channel_can_be_created_updated_and_deleted(self, millrace):
        created = json.loads(
            millrace(
                "channel",
                "create",
                "--name",
                "Foyer",
                "--expires",
                "2099-12-31",
                "--field",
                "isHls=true",
                "--field",
                "hls_time=4",
                "--json",
            ).stdout
        )
        id = created["id"]
        assert (created["videoname"], created["isHls"], created["hls_time"], created["expired"]) == (
            "Foyer",
            True,
            "4",
            False,
        )
        assert created["pushUrl"] == f"rtmp://127.0.0.1:1935/stream/{id}?sign={created['key']}"
        assert millrace("verify", "--id", id, "--key", created["key"]).returncode == 0

        assert json.loads(millrace("channel", "list", "--json").stdout) == [created]
        assert json.loads(millrace("channel", "show", id, "--json").stdout) == created
        text = millrace("channel", "show", id).stdout
        assert created["pushUrl"] in text
        assert created["playUrls"]["flv"] in text

        updated = json.loads(millrace("channel", "update", id, "--name", "Hall", "--json").stdout)
        assert updated == created | {"videoname": "Hall"}
        resigned = json.loads(millrace("channel", "sign", id, "--expires", "2098-01-01", "--json").stdout)
        assert resigned["key"].startswith("4039372800-")
        assert resigned["outdate"] == "2098-01-01"
        rotated = json.loads(
            millrace("channel", "sign", id, "--json", SIGNING__SECRET="a-new-secret-of-the-tests").stdout
        )
        assert rotated["key"].startswith("4039372800-")
        assert rotated["key"] != resigned["key"]

        assert millrace("channel", "delete", id).stdout == f"deleted {id}\n"
        assert millrace("channel", "list").stdout == ""
        assert line(millrace("channel", "show", id), 1) == f"no channel {id}"

    def test_a_channel_is_found_by_its_slug_and_shown_by_its_name_too(self, millrace):
        def made(name: str, *fields: str) -> str:
            return json.loads(millrace("channel", "create", "--name", name, *fields, "--json").stdout)["id"]

        stage = made("Main stage", "--field", "slug=stage")
        hall, other = made("Hall"), made("Hall")
        for name in (stage, "stage", "Main stage"):
            assert json.loads(millrace("channel", "show", name, "--json").stdout)["id"] == stage
        renamed = millrace("channel", "update", "stage", "--name", "Foyer", "--json")
        assert json.loads(renamed.stdout)["id"] == stage
        assert json.loads(millrace("channel", "sign", "stage", "--json").stdout)["id"] == stage
        said = line(millrace("channel", "show", "Hall"), 1)
        assert said == f"2 channels have the name Hall: {', '.join(sorted((hall, other)))}"
        for command in (("update", "Foyer", "--name", "x"), ("sign", "Foyer"), ("delete", "Foyer")):
            assert line(millrace("channel", *command), 1) == "no channel Foyer"
        assert millrace("channel", "delete", "stage").stdout == f"deleted {stage}\n"
        assert line(millrace("channel", "show", "stage"), 1) == "no channel stage"

    def test_a_new_channel_that_has_expired_already_gives_a_warning(self, millrace):
        done = millrace("channel", "create", "--expires", "2020-01-01", "--json")
        assert (done.returncode, json.loads(done.stdout)["expired"]) == (0, True)
        assert done.stderr.count("\n") == 1 and done.stderr.startswith("warning: this channel has expired already")
        assert millrace("channel", "create", "--expires", "never").stderr == ""

    def test_a_channel_is_deleted_with_or_without_its_media(self, millrace, tmp_path):
        ids = [
            json.loads(millrace("channel", "create", "--expires", "2099-12-31", "--json").stdout)["id"]
            for _ in range(2)
        ]
        files = [tmp_path / "var/media" / id / "720p" / f"{1_700_000_000_000 + n}.ts" for id in ids for n in range(2)]
        for file in files:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(b"x")
        kept = json.loads(millrace("channel", "delete", ids[0], "--json").stdout)
        assert kept == {"id": ids[0], "deleted": True, "media": "keep", "files": 0}
        said = millrace("channel", "delete", ids[1], "--media", "delete").stdout
        assert said == f"deleted {ids[1]} and 2 files\n"
        assert [file.exists() for file in files] == [True, True, False, False]

    def test_the_list_has_one_line_per_channel(self, millrace):
        millrace("channel", "create", "--name", "one", "--expires", "2030-01-01")
        millrace("channel", "create", "--name", "two\x1b[31m", "--expires", "2031-01-01T12:00:00Z")
        one, two = millrace("channel", "list").stdout.splitlines()
        assert one.endswith("  2030-01-01T00:00:00Z  flv,hls,cmaf  one")
        assert two.endswith("  2031-01-01T12:00:00Z  flv,hls,cmaf  two\N{REPLACEMENT CHARACTER}[31m")

    def test_a_row_that_cannot_be_read_is_named_beside_the_json(self, millrace, tmp_path):
        for name in ("broken", "sound"):
            millrace("channel", "create", "--name", name, "--expires", "2030-01-01")
        with contextlib.closing(sqlite3.connect(tmp_path / "var" / "millrace.db", isolation_level=None)) as database:
            database.execute("UPDATE channels SET item = '{' WHERE json_extract(item, '$.videoname') = 'broken'")
        done = millrace("channel", "list", "--json")
        assert [channel["videoname"] for channel in json.loads(done.stdout)] == ["sound"]
        assert json.loads(done.stderr)["event"] == "a row of the store is skipped, it cannot be read"

    def test_a_locale_without_all_characters_gets_escapes(self, millrace, tmp_path):
        millrace("channel", "create", "--name", "Zoë 直播 🎉", "--expires", "2030-01-01")
        env = os.environ | {"MILLRACE_DATA": str(tmp_path / "var"), "PYTHONIOENCODING": "latin-1"}
        done = command_line.run_bytes("channel", "list", env=env)
        assert (done.returncode, done.stderr) == (0, b"")
        assert done.stdout.decode("latin-1").endswith("  Zoë \\u76f4\\u64ad \\U0001f389\n")
        (listed,) = json.loads(command_line.run_bytes("channel", "list", "--json", env=env).stdout)
        assert listed["videoname"] == "Zoë 直播 🎉"

    def test_a_terminal_gets_a_header(self, monkeypatch, capsys):
        rows = [("c1", "never", "Hall"), ("c23", "2030-01-01T00:00:00Z", "")]
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        print_rows(("ID", "EXPIRES", "NAME"), rows)
        assert capsys.readouterr().out.splitlines() == [
            "ID   EXPIRES               NAME",
            "c1   never                 Hall",
            "c23  2030-01-01T00:00:00Z",
        ]


MISTAKES = [
    (["nonsense"], 2, "No such command"),
    (["serve", "--nonsense"], 2, "No such option"),
    (["sign"], 2, "Missing option"),
    (["sign", "--id", "", "--expires", "1"], 2, "--id"),
    (["sign", "--id", "a", "--expires", "soon"], 2, "--expires soon: expected"),
    (["sign", "--id", "a", "--expires", "-1"], 2, "--expires"),
    (["sign", "--id", "a", "--expires", "1", "--algorithm", "sha1"], 2, "sha1"),
    (["sign", "--id", "a", "--expires", "1", "--for", "fun"], 2, "fun"),
    (["sign", "--id", "a", "--expires", "1", "--secret", ""], 2, "--secret"),
    (["channel", "show", "nobody"], 1, "no channel nobody"),
    (["channel", "delete", "nobody"], 1, "no channel nobody"),
    (["channel", "delete", "nobody", "--media", "delete"], 1, "no channel nobody"),
    (["channel", "delete", "nobody", "--media", "all"], 2, "--media"),
    (["channel", "sign", "nobody"], 1, "no channel nobody"),
    (["channel", "update", "nobody", "--name", "x"], 1, "no channel nobody"),
    (["channel", "update", "nobody"], 2, "nothing to change"),
    (["channel", "create", "--expires", "2030-13-01"], 2, "--expires 2030-13-01"),
    (["channel", "create", "--expires", "1", "--field", "hls_time=0"], 2, "hls_time: expected a number from 1 to 60"),
    (["channel", "create", "--expires", "1", "--field", "isFlv"], 2, "--field isFlv: expected name=value"),
    (["channel", "create", "--expires", "1", "--field", "relayURL=[1"], 2, "not JSON"),
    (
        ["channel", "create", "--field", 'inputs=[{"kind":"push"},{"kind":"slate","picture":"soon"}]'],
        2,
        "picture: expected the key of a picture or film in the store, or an address",
    ),
    (["check-config", "--config", "/no/such.toml"], 2, "/no/such.toml cannot be read"),
    (["check-config", "--profile", "nope"], 2, "no profile 'nope'"),
    (["check-config", "--set", "rtmp.port=x"], 2, "rtmp.port"),
    (["serve", "--set", "rtmp.prot=1"], 2, "did you mean rtmp.port?"),
    (
        ["serve", "--set", "tls.cert=/no/cert", "--set", "tls.key=/dev/null"],
        2,
        "tls.cert names /no/cert, which cannot be read",
    ),
    (["--config", "/no/such.toml"], 2, "/no/such.toml cannot be read"),
]


@pytest.mark.parametrize(("args", "code", "said"), MISTAKES)
def test_a_mistake_gives_a_one_line_error_and_an_exit_code(millrace, args, code, said):
    assert said in line(millrace(*args), code)


@pytest.mark.parametrize(
    ("environ", "code", "said"),
    [
        ({"RTMP_PORT": "1"}, 2, "unknown variable MILLRACE_RTMP_PORT; did you mean MILLRACE_RTMP__PORT?"),
        ({"RTMP__PORT": "x"}, 2, "expected a port number"),
        ({"DATA": "/dev/null/x"}, 1, "the data folder /dev/null/x cannot be made"),
        ({"CHANNELS": "sqlite:////dev/null/x.db"}, 1, "the data folder /dev/null cannot be made"),
        ({"CHANNELS": "dynamodb://video-metadata"}, 1, "set AWS_REGION"),
    ],
)
def test_an_unusable_configuration_gives_a_one_line_error(millrace, environ, code, said):
    assert said in line(millrace("channel", "list", **environ), code)


class TestCheckConfig:
    def test_check_config_prints_every_option_with_its_source_and_no_secret(self, millrace):
        done = millrace("check-config", "--set", "rtmp.port=0", HTTP__PORT="9")
        assert done.returncode == 0
        shown = {name.strip(): rest for name, _, rest in (text.partition(" = ") for text in done.stdout.splitlines())}
        assert shown["rtmp.port"].split() == ["0", "#", "command", "line"]
        assert shown["http.port"].split() == ["9", "#", "MILLRACE_HTTP__PORT"]
        assert shown["ws.port"].split() == ["8081", "#", "default.toml"]
        assert shown["signing.secret"].startswith("********")
        assert "cli-secret-of-the-tests" not in done.stdout

    def test_check_config_exits_with_2_if_a_file_is_missing(self, millrace):
        done = millrace("check-config", TLS__CA="/no/ca.pem")
        assert done.returncode == 2
        assert "tls.ca" in done.stdout
        assert done.stderr == "millrace: tls.ca names /no/ca.pem, which cannot be read: No such file or directory\n"
