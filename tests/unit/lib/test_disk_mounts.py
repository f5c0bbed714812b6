"""The file system that a path is on."""

from pathlib import Path

import pytest

from gateway.lib import disk
from gateway.lib.disk import network_file_system

MOUNTS = r"""
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
40 22 0:40 / /srv rw - nfs4 server:/srv rw
41 40 8:2 / /srv/local rw master:1 shared:2 - xfs /dev/sdb1 rw
42 22 0:42 / /mnt/my\040share rw - cifs //server/share rw
43 22 0:43 / /over rw - cifs //server/share rw
44 43 8:3 / /over rw - ext4 /dev/sdc1 rw
45 22 0:45 / /cloud rw - fuse.rclone remote: rw
46 22 0:46 / /wsl rw - 9p C:\134 rw
malformed
47 22 0:47
48 22 0:48 / /also rw -
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/etc", ""), ("/srv", "nfs4"), ("/srv/a/b.db", "nfs4"), ("/srv/local/b.db", ""), ("/srvx/b.db", ""),
        ("/mnt/my share/b.db", "cifs"), ("/mnt/my", ""), ("/over/b.db", ""), ("/cloud/b.db", "fuse.rclone"),
        ("/wsl/b.db", "9p"), ("/also/b.db", ""),
    ],
)  # fmt: skip
def test_the_network_file_system_of_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, kind: str):
    (tmp_path / "mounts").write_text(MOUNTS)
    monkeypatch.setattr(disk, "_MOUNTS", tmp_path / "mounts")
    assert network_file_system(Path(path)) == kind


def test_a_system_without_a_list_of_mounts_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(disk, "_MOUNTS", tmp_path / "missing")
    assert network_file_system(tmp_path) == ""
