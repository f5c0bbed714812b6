"""A copy of this machine in which a test may install packages: an overlay in a mount namespace of its own."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

from tests.support.time_outs import at_most
from tests.support.tools import lacking, need

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"  # root's, without an environment of Python
_ENTER = """
set -e
mount -t tmpfs scratch {folder}
mkdir {folder}/upper {folder}/work {folder}/root
mount -t overlay overlay -o lowerdir=/,upperdir={folder}/upper,workdir={folder}/work {folder}/root
mount --bind /dev {folder}/root/dev
mount --bind {shared} {folder}/root/mnt
mount -t proc proc {folder}/root/proc || mount --bind /proc {folder}/root/proc
exec env PATH={path} chroot {folder}/root /bin/bash -euc {script}
"""


def in_scratch_system(folder: Path, shared: Path, script: str, timeout: float = 300) -> str:
    """Runs a bash script as root on a copy of this machine, which ends with it. Returns its output.

    folder: an empty folder for the copy. shared: a folder that the script sees as /mnt. Skips the test where mounts are
    not allowed, as in most containers.
    """
    need("unshare", "chroot")
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode:
        lacking("this machine does not allow mounts")
    enter = _ENTER.format(folder=folder, shared=shared, path=_PATH, script=shlex.quote(script))
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", enter], capture_output=True, text=True, timeout=at_most(timeout), check=False
    )
    assert done.returncode == 0, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout
