"""`millrace backup` and `restore`: a machine is lost, a version is taken back, and wrong files change nothing."""

from __future__ import annotations

import io
import json
import os
import sqlite3
import subprocess
import tarfile
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.command_line import run_bytes
from tests.support.gateway import Gateway, running
from tests.support.postgres import Postgres
from tests.support.shared_gateway import shared_gateway

gateway = shared_gateway()


def millrace(data: Path, *arguments: str, stdin: bytes = b"", **environ: str) -> subprocess.CompletedProcess[bytes]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MILLRACE_")}
    return run_bytes(*arguments, env=kept | {"MILLRACE_DATA": str(data), **environ}, stdin=stdin)


def done(data: Path, *arguments: str, **environ: str) -> str:
    found = millrace(data, *arguments, **environ)
    assert (found.returncode, found.stdout) == (0, b""), found
    return found.stderr.decode()


def refused(data: Path, *arguments: str) -> str:
    found = millrace(data, *arguments, MILLRACE_ADMIN__TOKEN="of-this-test-only")
    assert (found.returncode, found.stdout) == (1, b""), found
    assert found.stderr.count(b"\n") == 1, found.stderr
    return found.stderr.decode()


def names(data: Path) -> set[str]:
    """The names of the channels that the command line finds in a data folder."""
    found = millrace(data, "channel", "list", "--json")
    assert found.returncode == 0, found.stderr
    return {channel["name"] for channel in json.loads(found.stdout)}


def everything(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def with_schema(archive: Path, target: Path, version: int) -> Path:
    """Writes a copy of a backup whose database of channels has this schema, as another version of Millrace makes it."""
    with tarfile.open(archive) as old, tarfile.open(target, "w") as new:
        for member in old:
            content = old.extractfile(member).read()  # type: ignore[union-attr]
            if member.name == "stores/channels.db":
                file = target.with_suffix(".db")
                file.write_bytes(content)
                with closing(sqlite3.connect(file)) as database:
                    database.execute(f"PRAGMA user_version = {version}")
                    database.commit()
                    database.execute("PRAGMA journal_mode = DELETE")
                member.size = file.stat().st_size
                content = file.read_bytes()
            new.addfile(member, io.BytesIO(content))
    return target


def test_a_lost_machine_comes_back_with_keys_users_media_and_token(gateway: Gateway, tmp_path: Path) -> None:
    channel = gateway.channel("Kept")
    (gateway.data / "tls").mkdir()
    (gateway.data / "tls" / "account.key").write_text("of an authority")
    (gateway.data / "media" / "a" / "mp4").mkdir(parents=True)
    (gateway.data / "media" / "a" / "mp4" / "show.mp4").write_bytes(b"a film")
    (gateway.data / "media" / "a" / ".unfinished.mp4").write_bytes(b"half")
    archive, config = tmp_path / "all.tar.gz", tmp_path / "mine.toml"
    config.write_text("[log]\nlevel = 'debug'\n")
    text = done(gateway.data, "backup", str(archive), "--media", MILLRACE_CONFIG=str(config))
    assert "databases" in text and "1 of media" in text
    assert archive.stat().st_mode & 0o777 == 0o600

    new = tmp_path / "new"
    assert "restored: " in done(new, "restore", str(archive))
    assert (new / "signing.secret").read_text() == (gateway.data / "signing.secret").read_text()
    assert (new / "signing.secret").stat().st_mode & 0o777 == 0o600
    assert (new / "tls" / "account.key").read_text() == "of an authority"
    assert (new / "media" / "a" / "mp4" / "show.mp4").read_bytes() == b"a film"
    assert (new / "config-of-backup.toml").read_text() == config.read_text()
    assert not list(new.rglob(".*")) and not (new / "ports.json").exists()
    assert "Kept" in names(new)
    verified = millrace(new, "verify", "--id", channel.id, "--key", channel.key)
    assert verified.returncode == 0, verified.stderr


def test_a_backup_passes_through_a_pipe(gateway: Gateway, tmp_path: Path) -> None:
    gateway.channel("Piped")
    saved = millrace(gateway.data, "backup", "-")
    assert saved.returncode == 0, saved.stderr
    restored = millrace(tmp_path / "new", "restore", "-", stdin=saved.stdout)
    assert restored.returncode == 0, restored.stderr
    assert "Piped" in names(tmp_path / "new")


def test_backups_in_the_data_folder_are_in_no_backup_and_stay_where_they_are(gateway: Gateway, tmp_path: Path) -> None:
    """Otherwise each night's backup would contain all earlier ones. In a container, no other folder lasts."""
    data = tmp_path / "data"
    assert millrace(data, "restore", "-", stdin=millrace(gateway.data, "backup", "-").stdout).returncode == 0
    first, second = data / "monday.tgz", data / "nightly" / "tuesday.tar"
    second.parent.mkdir()
    done(data, "backup", str(first))
    assert f"left out, because they are backups: {first}" in done(data, "backup", str(second))
    with tarfile.open(second) as archive:
        assert not [name for name in archive.getnames() if name.endswith((".tgz", ".tar"))]
    done(data, "restore", "--force", str(first))
    assert first.is_file()


def test_a_backup_that_cannot_be_written_is_named_as_the_user_named_it(gateway: Gateway, tmp_path: Path) -> None:
    file = tmp_path / "missing" / "all.tar.gz"
    assert refused(gateway.data, "backup", str(file)) == f"millrace: {file}: No such file or directory\n"
    full = millrace(gateway.data, "backup", "/dev/full/all.tar.gz")
    assert full.stderr == b"millrace: /dev/full/all.tar.gz: Not a directory\n"


def test_old_to_new_and_back_to_old(gateway: Gateway, tmp_path: Path) -> None:
    """The new version is imitated by its mark in the database, which is what makes it newer for this program."""
    gateway.channel("Before the upgrade")
    data = tmp_path / "data"
    done(gateway.data, "backup", str(tmp_path / "old.tar"))
    done(data, "restore", str(tmp_path / "old.tar"))
    with closing(sqlite3.connect(data / "millrace.db")) as database:
        database.execute("PRAGMA user_version = 3")
    started = refused(data, "serve")
    assert "was written by a newer Millrace: its schema is 3, this one supports 2" in started
    assert "--force" in refused(data, "restore", str(tmp_path / "old.tar"))
    text = done(data, "restore", "--force", str(tmp_path / "old.tar"))
    assert "Before the upgrade" in names(data)
    (kept,) = data.glob("before-restore-*")
    assert str(kept) in text and (kept / "millrace.db").exists() and kept.stat().st_mode & 0o777 == 0o700


def test_a_backup_of_a_newer_version_changes_nothing(gateway: Gateway, tmp_path: Path) -> None:
    done(gateway.data, "backup", str(tmp_path / "now.tar"))
    data = tmp_path / "data"
    done(data, "restore", str(tmp_path / "now.tar"))
    before = everything(data)
    newer = with_schema(tmp_path / "now.tar", tmp_path / "newer.tar", 7)
    line = refused(data, "restore", "--force", str(newer))
    assert "channels.db was written by a newer Millrace: its schema is 7, this one supports 2" in line
    assert everything(data) == before


def hostile(path: Path, name: str) -> None:
    entries = json.dumps({"format": 1, "version": "0", "entries": [name]}).encode()
    with tarfile.open(path, "w") as tar:
        for title, content in (("backup.json", entries), (name, b"#!")):
            member = tarfile.TarInfo(title)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def test_damaged_and_foreign_files_change_nothing(gateway: Gateway, tmp_path: Path) -> None:
    whole = tmp_path / "whole.tar.gz"
    done(gateway.data, "backup", str(whole))
    content = whole.read_bytes()
    cases = {"half": content[: len(content) // 2], "text": b"no tar at all" * 100, "empty": b""}
    for name, data in cases.items():
        (tmp_path / name).write_bytes(data)
    for number, path in enumerate(("data/../../escaped", "/tmp/escaped-millrace", "data/run/../../../escaped")):
        hostile(tmp_path / f"hostile{number}", path)
    for name in (*cases, "hostile0", "hostile1", "hostile2"):
        target = tmp_path / f"of-{name}"
        assert "not a whole backup" in refused(target, "restore", str(tmp_path / name)), name
        assert everything(target) == {}, name
    assert not (tmp_path / "escaped").exists() and not Path("/tmp/escaped-millrace").exists()


def test_nothing_is_restored_below_a_running_gateway(tmp_path: Path) -> None:
    with running() as live:
        done(live.data, "backup", str(tmp_path / "a.tar"))
        assert "runs on this data folder already" in refused(live.data, "restore", "--force", str(tmp_path / "a.tar"))
        assert live.api("GET", "/videostream").status == 200


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_root_restores_files_for_the_owner_of_the_data_folder(gateway: Gateway, tmp_path: Path) -> None:
    done(gateway.data, "backup", str(tmp_path / "a.tar"), "--media")
    data = tmp_path / "of-another"
    data.mkdir()
    os.chown(data, 4321, 4321)
    done(data, "restore", str(tmp_path / "a.tar"))
    owners = {path: path.stat().st_uid for path in data.rglob("*")}
    assert owners and set(owners.values()) == {4321}, owners


def test_a_database_comes_back_and_can_move_to_files(postgres: Postgres, tmp_path: Path) -> None:
    first, second = ({"MILLRACE_DATABASE": postgres.new_database()} for _ in range(2))
    with running(**first) as gateway:
        channel = gateway.channel("Kept", inputs=[{"name": "main", "kind": "push"}, {"name": "slate", "kind": "slate"}])
        gateway.api("PUT", "/site", {"name": "Our station"})
        archive = tmp_path / "all.tar.gz"
        assert "5 databases" in done(gateway.data, "backup", str(archive), **first)
        later = gateway.channel("Later")
    for name, where in (("database", second), ("files", {})):
        data = tmp_path / name
        restored = done(data, "restore", str(archive), **where)
        assert ("in the database: " in restored) is bool(where)
        listed = millrace(data, "channel", "list", "--json", **where)
        assert [(item["id"], item["key"]) for item in json.loads(listed.stdout)] == [(channel.id, channel.key)]
        assert millrace(data, "verify", "--id", channel.id, "--key", channel.key, **where).returncode == 0
    found = millrace(tmp_path / "again", "restore", str(archive), **second)
    assert (found.returncode, b"has data already" in found.stderr) == (1, True)
    assert "in the database: " in done(tmp_path / "again", "restore", str(archive), "--force", **first)
    listed = millrace(tmp_path / "again", "channel", "list", "--json", **first)
    assert {item["id"] for item in json.loads(listed.stdout)} == {channel.id, later.id}
