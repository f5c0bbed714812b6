"""Backups and restores: what an archive may name, and what a backup leaves out."""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
from pathlib import Path
from unittest.mock import patch

import pytest

from gateway.adapters.backup import Places, write_backup
from gateway.adapters.restore import restore_backup
from gateway.ports.errors import StoreUnusable

Entry = tuple[str, bytes | tarfile.TarInfo]


def special(kind: bytes, to: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo()
    member.type, member.linkname = kind, to
    return member


def archive(*entries: Entry) -> io.BytesIO:
    """Returns a tar file. Its list names all entries but those of media."""
    out = io.BytesIO()
    listed = [name for name, _ in entries if not name.startswith("media/")]
    head = json.dumps({"format": 1, "version": "1", "entries": listed}).encode()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in (("backup.json", head), *entries):
            member = tarfile.TarInfo(name) if isinstance(content, bytes) else content
            member.name = name
            if isinstance(content, bytes):
                member.size = len(content)
            tar.addfile(member, io.BytesIO(content) if isinstance(content, bytes) else None)
    out.seek(0)
    return out


@pytest.fixture
def places(tmp_path: Path) -> Places:
    data, media = tmp_path / "machine" / "data", tmp_path / "machine" / "media"
    data.mkdir(parents=True)
    media.mkdir()
    return Places(data, {}, media)


def files(folder: Path) -> set[str]:
    found = (path for path in folder.rglob("*") if not path.is_dir() or path.is_symlink())
    return {str(path.relative_to(folder)) for path in found if path.name != "lock"}


SPARSE = special(tarfile.GNUTYPE_SPARSE)
HOSTILE: dict[str, tuple[Entry, ...]] = {
    "a path upwards": (("data/../../evil", b"x"),),
    "an absolute path": (("/{outside}/evil", b"x"),),
    "an absolute path behind data": (("data//{outside}/evil", b"x"),),
    "an absolute path behind media": (("media//{outside}/evil", b"x"),),
    "media upwards": (("media/../../evil", b"x"),),
    "a dot and a slash": (("./data/evil", b"x"),),
    "a NUL": (("data/evil\0x", b"x"),),
    "a symbolic link": (("data/evil", special(tarfile.SYMTYPE, "/{outside}")),),
    "a hard link": (("data/evil", special(tarfile.LNKTYPE, "/{outside}/a")),),
    "a symbolic link among media": (("media/evil", special(tarfile.SYMTYPE, "/{outside}")),),
    "a link and a file behind it": (("data/ev", special(tarfile.SYMTYPE, "/{outside}")), ("data/ev/evil", b"x")),
    "a device": (("data/evil", special(tarfile.CHRTYPE)),),
    "a FIFO": (("media/evil", special(tarfile.FIFOTYPE)),),
    "a folder": (("media/evil", special(tarfile.DIRTYPE)),),
    "an empty name": (("data/", b"x"),),
    "a name without a folder": (("", b"x"),),
    "one name twice": (("data/a", b"11"), ("data/a", b"2")),
    "a file below a file": (("data/a", b"1"), ("data/a/b", b"2")),
    "a sparse file": (("data/sparse", SPARSE),),
    "a name of 5,000 letters": (("data/" + "e" * 5_000, b"x"),),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_an_archive_with_a_hostile_entry_changes_nothing(case: str, places: Places, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "a").write_text("of another")
    (places.data / "old").write_text("here before")
    root = str(outside).strip("/")
    entries: list[Entry] = [("data/good", b"x")]
    for name, content in HOSTILE[case]:
        if isinstance(content, tarfile.TarInfo):
            content.linkname = content.linkname.replace("{outside}", root)
        entries.append((name.replace("{outside}", root), content))
    before = files(tmp_path)
    with pytest.raises((StoreUnusable, OSError)) as refused:
        restore_backup(places, archive(*entries, ("media/last", b"x")), force=True)
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 6_000
    assert files(tmp_path) == before
    assert (outside / "a").read_text() == "of another"


@pytest.mark.parametrize("folder", ["data", "media"])
def test_a_link_on_this_machine_leads_no_file_elsewhere(folder: str, places: Places, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (places.data / "tmp").symlink_to(tmp_path / "outside")  # no data of a backup, so `force` does not move it
    (tmp_path / "machine" / "media" / "tmp").symlink_to(tmp_path / "outside")
    with pytest.raises(StoreUnusable, match="'tmp/evil' is no name of a file below"):
        restore_backup(places, archive((f"{folder}/tmp/evil", b"x")), force=True)
    assert files(tmp_path / "outside") == set()


def test_a_cut_archive_changes_no_media(places: Places, tmp_path: Path) -> None:
    whole = archive(("data/a", b"1"), ("media/a", b"2"), ("media/b", bytes(50_000))).getvalue()
    before = files(tmp_path)
    with pytest.raises(StoreUnusable, match="not a whole backup"):
        restore_backup(places, io.BytesIO(whole[:-40_000]), force=True)
    assert files(tmp_path) == before


def test_files_and_media_come_back(places: Places) -> None:
    lines = restore_backup(places, archive(("data/a/b", b"1"), ("media/c/d", b"2")), force=False)
    assert lines[0] == "restored: 0 databases, 1 files, 1 of media"
    assert (places.data / "a" / "b").read_bytes() == b"1"
    assert places.media is not None and (places.media / "c" / "d").read_bytes() == b"2"
    assert not list(places.data.rglob(".restore")) and not list(places.media.rglob(".restore"))


def test_a_backup_leaves_links_out_by_name(places: Places, tmp_path: Path) -> None:
    assert places.media is not None
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("x")
    (places.data / "folder").mkdir()
    (places.data / "folder" / "kept").write_text("1")
    for link, target in (("linked", "outside"), ("shadow", "outside/secret"), ("folder/inner", "outside")):
        (places.data / link).symlink_to(tmp_path / target)
    (places.media / "films").symlink_to(tmp_path / "outside")
    os.mkfifo(places.data / "fifo")
    out = io.BytesIO()
    text = write_backup(places, out, None, compress=False, media=True)
    out.seek(0)
    with tarfile.open(fileobj=out) as tar:
        assert tar.getnames() == ["backup.json", "data/folder/kept"]
    left_out = [places.data / "folder/inner", places.data / "linked", places.data / "shadow", places.media / "films"]
    assert text == (
        f"saved: 0 databases, 1 files, 0 of media; left out, because they are links: {', '.join(map(str, left_out))}"
    )


def test_a_backup_leaves_out_files_of_jobs_and_uploads(places: Places) -> None:
    for name in ("vod/71-job/film/source.mov", "vod/71-job/made/0.ts", "uploads/unfinished/film.part", "acme/key.pem"):
        (places.data / name).parent.mkdir(parents=True, exist_ok=True)
        (places.data / name).write_text("x")
    out = io.BytesIO()
    write_backup(places, out, None, compress=False, media=False)
    out.seek(0)
    with tarfile.open(fileobj=out) as tar:
        assert tar.getnames() == ["backup.json", "data/acme/key.pem"]


def test_a_file_that_is_deleted_during_a_backup_is_left_out(places: Places, tmp_path: Path) -> None:
    for name in ("first", "second", "third"):
        (places.data / name).write_text(name)
    out = io.BytesIO()
    copy = shutil.copyfile

    def copy_and_delete_the_next(source: Path, target: Path) -> None:
        copy(source, target)
        (places.data / "second").unlink(missing_ok=True)

    with patch("gateway.adapters.backup.shutil.copyfile", copy_and_delete_the_next):
        write_backup(places, out, None, compress=False, media=False)
    out.seek(0)
    restored = Places(tmp_path / "other", {}, None)
    restore_backup(restored, out, force=False)
    assert files(restored.data) == {"first", "third"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_everything_that_root_restores_belongs_to_the_owner_of_the_data_folder(places: Places) -> None:
    os.chown(places.data, 4321, 4321)
    restore_backup(places, archive(("data/a/b", b"1"), ("media/c/d", b"2")), force=False)
    assert {path.stat().st_uid for path in places.data.rglob("*")} == {4321}
    assert (places.data / "run" / "lock").exists()
