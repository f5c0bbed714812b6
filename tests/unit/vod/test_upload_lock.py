"""The one use of an upload address, also where several processes serve the folder."""

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
one.done() if sys.argv[2] == "done" else None
"""


def test_one_at_a_time_and_never_after_it_is_done(tmp_path):
    one = UploadLock.begin(tmp_path, "k.mp4")
    with pytest.raises(UploadExists):
        UploadLock.begin(tmp_path, "k.mp4")
    UploadLock.begin(tmp_path, "other.mp4").release()
    one.done()
    with pytest.raises(UploadExists):
        UploadLock.begin(tmp_path, "k.mp4")


def test_what_failed_may_begin_again(tmp_path):
    UploadLock.begin(tmp_path, "k.mp4").release()
    assert list(tmp_path.iterdir()) == []
    UploadLock.begin(tmp_path, "k.mp4").done()


@pytest.mark.parametrize("end", ["done", "crash"])
def test_another_process_is_seen_and_a_dead_one_is_not_waited_for(tmp_path, end):
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
        UploadLock.begin(tmp_path, "k.mp4").done()


def test_old_marks_are_forgotten(tmp_path):
    for name, at in (("old.mp4", 1000), ("new.mp4", 3000)):
        UploadLock.begin(tmp_path, name).done()
        os.utime(tmp_path / f".{name}.used", (at, at))
    remove_marks(tmp_path, 2000)
    assert [path.name for path in tmp_path.iterdir()] == [".new.mp4.used"]
