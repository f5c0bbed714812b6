"""A disk that cannot hold a file is 507, and not an internal error. Its paths go only to the log."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.adapters.local.objects import LocalObjects
from gateway.api.appearance import JPEGS
from gateway.api.jobs import VOD_SERVICE
from tests.support.admin import Admin, admin

REFUSED = {"error": "the gateway's disk cannot hold the file now"}


class FailingDisk(LocalObjects):
    """A folder on a disk that fails with this error number."""

    def __init__(self, root: Path, error: int) -> None:
        super().__init__(root)
        self.error = error

    async def put(self, key: str, file: Path) -> None:
        raise OSError(self.error, os.strerror(self.error), str(file))


async def convert(data: bytes, longest: int, alpha: bool) -> bytes:
    return data


SERVICES = {JPEGS: SimpleNamespace(convert=convert)}


async def set_poster(api: Admin) -> Any:
    await api.store.add({"id": "c1"})
    return await api.call("PUT", "/videostream/c1/poster", raw=b"\xff\xd8\xff")


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS])
async def test_a_poster_that_the_disk_cannot_hold_is_507(tmp_path: Path, error: int) -> None:
    with capture_logs() as logs:
        async with admin(tmp_path, objects=FailingDisk(tmp_path, error), services=SERVICES) as api:
            answer = await set_poster(api)
            assert (answer.status, await answer.json()) == (507, REFUSED)
            assert (await api.store.get("c1")).poster == ""
    assert [os.strerror(error) in line["reason"] for line in logs if line["log_level"] == "warning"] == [True]


async def test_another_error_of_the_disk_is_an_internal_error(tmp_path: Path) -> None:
    async with admin(tmp_path, objects=FailingDisk(tmp_path, errno.EBADF), services=SERVICES) as api:
        assert (await set_poster(api)).status == 500


async def test_captions_that_the_disk_cannot_hold_are_507(tmp_path: Path) -> None:
    async def fail(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    vod = SimpleNamespace(captions=SimpleNamespace(add=fail, remove=fail))
    async with admin(tmp_path, services={VOD_SERVICE: vod}) as api:
        for method in ("PUT", "DELETE"):
            answer = await api.call(method, "/filmcaptions/a/en", raw=b"WEBVTT\n")
            assert (answer.status, await answer.json()) == (507, REFUSED)
