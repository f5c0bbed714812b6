"""An upload address is used only once, also with several processes on one folder."""

import os
import subprocess
import sys

import pytest

from gateway.vod.uploads import UploadExists, UploadLock, remove_marks

HOLDS = """
import sys, time
from pathlib import Path
from gateway.vod.uploads import UploadLock
one = UploadLock.begin(Path(sys.argv[1]), "k.mp4")
print("held", flush=True)
sys.stdin.readline()
one.mark_used() if sys.argv[2] == "done" else None
"""


def test_a_key_has_one_upload_at_a_time_and_none_afterwards(tmp_path):
    one = UploadLock.begin(tmp_path, "k.mp4")
    with pytest.raises(UploadExists):
        UploadLock.begin(tmp_path, "k.mp4")
    UploadLock.begin(tmp_path, "other.mp4").release()
    one.mark_used()
    with pytest.raises(UploadExists):
        UploadLock.begin(tmp_path, "k.mp4")


def test_a_failed_upload_may_begin_again(tmp_path):
    UploadLock.begin(tmp_path, "k.mp4").release()
    assert list(tmp_path.iterdir()) == []
    UploadLock.begin(tmp_path, "k.mp4").mark_used()


@pytest.mark.parametrize("end", ["done", "crash"])
def test_an_upload_of_another_process_blocks_until_that_process_ends(tmp_path, end):
    other = subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(tmp_path), end], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(UploadExists):
            UploadLock.begin(tmp_path, "k.mp4")
    finally:
        other.communicate(b"\n")
    if end == "done":
        with pytest.raises(UploadExists):
            UploadLock.begin(tmp_path, "k.mp4")
    else:
        UploadLock.begin(tmp_path, "k.mp4").mark_used()


def test_old_marks_are_removed(tmp_path):
    for name, at in (("old.mp4", 1000), ("new.mp4", 3000)):
        UploadLock.begin(tmp_path, name).mark_used()
        os.utime(tmp_path / f".{name}.used", (at, at))
    remove_marks(tmp_path, 2000)
    assert [path.name for path in tmp_path.iterdir()] == [".new.mp4.used"]
