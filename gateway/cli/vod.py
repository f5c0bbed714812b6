"""`millrace vod …`: makes HLS, a poster and a thumbnail of one video, with or without a running gateway."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli import common
from gateway.lib.process import alive

if TYPE_CHECKING:
    from gateway.ports.vod_names import VodNames
    from gateway.settings import Settings
    from gateway.workers.package_protocol import PackageResult
    from gateway.workers.vod_bounds import Bounds

_WIDTH = 32
_S3 = "s3://"
_SCRATCH = ".millrace-vod-"


def vod(
    source: Annotated[str, typer.Argument(metavar="FILE|s3://…", help="The film.")],
    out: Annotated[
        str | None,
        typer.Option(
            "--out",
            metavar="DIR|s3://…",
            help="Where to: files go below DIR/<name>/ and replace an earlier film of that name. A name that "
            "playlists and addresses would have to escape is made plain, with a hash behind it.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the job as JSON when it is over.")] = False,
    mediaconvert_json: Annotated[
        bool,
        typer.Option(
            "--mediaconvert-json",
            help="Make nothing: print the equivalent MediaConvert job, with ROLE_ARN and QUEUE_ARN of the environment.",
        ),
    ] = False,
    unbounded: Annotated[
        bool,
        typer.Option(
            "--unbounded",
            help="Lift the bounds of a film's length, of its output and of the time it takes "
            "(vod.film_seconds, vod.output_ratio, vod.job_ratio; --set changes one). The free disk is still watched.",
        ),
    ] = False,
    config: common.ConfigOption = None,
    profile: common.ProfileOption = None,
    overrides: common.SetOption = None,
) -> None:
    """Make HLS, a poster and a thumbnail of a video.

    HLS: 10 s segments, H.264 of at most 5 Mbit/s, the video's sound.
    """
    settings = common.settings(config, profile, overrides)
    if mediaconvert_json:
        _print_mediaconvert(settings, source, out)
        return
    if not out:
        common.fail(common.USAGE, "--out: where to? a folder, or s3://bucket/prefix")
    raise typer.Exit(asyncio.run(_Command(settings, source, out, as_json, unbounded).run()))


def _print_mediaconvert(settings: Settings, source: str, out: str | None) -> None:
    """Prints the job even if it cannot be sent as it is, and names what is missing on stderr."""
    from gateway.vod.mediaconvert import create_job

    names = _names(source)
    if out:
        destination = f"{out.rstrip('/')}/{names.base}/"
    else:
        destination = f"{source.rpartition('/')[0] or '.'}/{names.base}/"
    role, queue = os.environ.get("ROLE_ARN", ""), os.environ.get("QUEUE_ARN", "")
    how = settings.vod
    job = create_job(source, destination, role, queue, bitrate=how.bitrate, segment=round(how.segment))
    typer.echo(json.dumps(job, ensure_ascii=False, indent=2))
    if not role:
        typer.echo("millrace: ROLE_ARN is not set: MediaConvert needs a Role", err=True)
    if not source.startswith((_S3, "https://")) or not destination.startswith(_S3):
        typer.echo("millrace: MediaConvert reads from s3:// or https:// and writes to s3://", err=True)
    if endpoint := os.environ.get("MEDIA_CONVERT_ENDPOINT_URL"):
        typer.echo(f"aws mediaconvert create-job --endpoint-url {endpoint} --cli-input-json file://…", err=True)


def _names(source: str) -> VodNames:
    """Returns the names of the results of a source, from its base name made plain."""
    from gateway.ports.vod_names import VodNames, names_of

    try:
        names = names_of(source.rpartition("/")[2])
    except ValueError as error:
        common.fail(common.USAGE, f"{common.plain(source)}: {error}")
    return VodNames(names.base, names.base)


class _Command:
    """Makes one VOD from its source and puts it in place."""

    def __init__(self, settings: Settings, source: str, out: str, as_json: bool, unbounded: bool) -> None:
        self._settings = settings
        self._unbounded = unbounded
        self._source = source
        self._out = out
        self._as_json = as_json
        self._bar = _Bar()
        self._names = _names(source)

    async def run(self) -> int:
        """Returns the exit code. Ctrl-C and SIGTERM end the worker and leave nothing behind."""
        from gateway.lib import log as logs
        from gateway.ports.errors import GatewayError
        from gateway.workers.vod_errors import UnusableMedia

        logs.configure("error", self._settings.log.format)
        task = asyncio.current_task()
        assert task is not None, "this is a task's coroutine"
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        try:
            outputs = await self._make()
        except asyncio.CancelledError:
            return self._over("CANCELED", {}, "canceled", 130)
        except (UnusableMedia, GatewayError) as error:
            return self._over("ERROR", {}, str(error), common.FAILED)
        except OSError as error:
            return self._over("ERROR", {}, error.strerror or str(error), common.FAILED)
        self._bar.full()
        return self._over("COMPLETE", outputs, None, 0)

    def _over(self, state: str, outputs: dict[str, str], error: str | None, code: int) -> int:
        from gateway.ports.job_queue import new_id

        self._bar.end()
        if error is not None:
            typer.echo(f"millrace: {common.plain(self._source)}: {common.plain(error)}", err=True)
        if self._as_json:
            job: dict[str, Any] = {
                "id": new_id(time.time()),
                "state": state,
                "progress": self._bar.percent,
                "source": self._source,
                "outputs": outputs,
                "error": error,
            }
            typer.echo(json.dumps(job, ensure_ascii=False, indent=2))
        elif outputs:
            typer.echo(outputs["hls"])
        return code

    async def _make(self) -> dict[str, str]:
        from gateway.lib.metric_table import WORKER_RESTARTS
        from gateway.lib.metrics import Counter
        from gateway.vod.package_client import request_package
        from gateway.vod.publishing import judge_folder
        from gateway.workers.package_protocol import PackageRequest, VodEncoding
        from gateway.workers.vod_bounds import Bounds, while_room
        from gateway.workers.worker_pool import WorkerPool

        how = self._settings.vod
        encoding = VodEncoding(how.crf, how.preset, how.bitrate, how.segment)
        bounds = Bounds.of(how).lifted() if self._unbounded else Bounds.of(how)
        workers = WorkerPool(self._settings.workers, Counter(WORKER_RESTARTS))
        with _scratch(self._out) as scratch:
            if not self._out.startswith(_S3):
                await asyncio.to_thread(judge_folder, scratch.parent / self._names.base, self._names)
            made_in = scratch / "made"
            await asyncio.to_thread(made_in.mkdir)

            async def work() -> PackageResult:
                async with self._film(scratch, bounds) as film:
                    order = PackageRequest(film, str(made_in), self._names.base, encoding, bounds)
                    return await request_package(workers, order, self._bar.show, how.memory)

            made = await while_room(bounds, scratch, work)
            return await self._deliver(made, made_in)

    @asynccontextmanager
    async def _film(self, scratch: Path, bounds: Bounds) -> AsyncIterator[str]:
        """Gives the path of the video on this machine."""
        from gateway.adapters.stores import open_bucket

        if not self._source.startswith(_S3):
            yield _absolute(self._source)
            return
        bucket, _, key = self._source.removeprefix(_S3).partition("/")
        async with open_bucket(bucket) as store:
            to = scratch / f"film{os.path.splitext(key)[1][:10]}"
            await asyncio.to_thread(bounds.judge_room, scratch, (await store.head(key)).size)
            await store.fetch(key, to)
        yield str(to)

    async def _deliver(self, made: PackageResult, made_in: Path) -> dict[str, str]:
        from gateway.adapters.stores import open_bucket
        from gateway.ports.vod_names import VodNames
        from gateway.vod.publishing import outputs, publish, replace_folder

        if not self._out.startswith(_S3):
            folder = made_in.parent.parent
            await asyncio.to_thread(replace_folder, made_in, folder / self._names.base, self._names)
            shown = Path(self._out)
            return {name: str(shown / key) for name, key in outputs(self._names, made).items()}
        bucket, _, prefix = self._out.removeprefix(_S3).partition("/")
        prefix = prefix.strip("/")
        names = VodNames(f"{prefix}/{self._names.base}" if prefix else self._names.base, self._names.base)
        async with open_bucket(bucket) as store:
            keys = await publish(store, names, made_in, made)
        return {name: f"{_S3}{bucket}/{key}" for name, key in keys.items()}


@contextmanager
def _scratch(to: str) -> Iterator[Path]:
    """Creates a hidden folder inside the output folder, so that one rename puts the result in place.

    For a bucket it is in the temporary folder.
    """
    out = None if to.startswith(_S3) else Path(to).expanduser()
    begun = out is not None and not out.exists()
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        for left in out.glob(f"{_SCRATCH}*-*"):  # left by killed commands
            pid = left.name.removeprefix(_SCRATCH).partition("-")[0]
            if pid.isdigit() and not alive(int(pid)):
                shutil.rmtree(left, ignore_errors=True)
    made = Path(tempfile.mkdtemp(prefix=f"{_SCRATCH}{os.getpid()}-", dir=out)).resolve()
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)
        if begun and out is not None:
            with suppress(OSError):  # not empty
                out.rmdir()


def _absolute(path: str) -> str:
    return os.path.abspath(os.path.expanduser(path))


class _Bar:
    """A progress bar on a terminal, else a line now and then. It uses stderr, because stdout has the result."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self.percent = 0
        self._said = -1

    def show(self, done: float) -> None:
        """Shows the progress. done: 0 to 1."""
        self.percent = max(self.percent, min(99, int(done * 100)))
        self._draw()

    def full(self) -> None:
        self.percent = 100
        self._draw()

    def end(self) -> None:
        """Ends the line of the bar."""
        if self._terminal and self._said >= 0:
            typer.echo("", err=True)

    def _draw(self) -> None:
        if self._terminal:
            if self.percent != self._said:
                full = self.percent * _WIDTH // 100
                typer.echo(f"\r[{'#' * full}{' ' * (_WIDTH - full)}] {self.percent:3d} %", err=True, nl=False)
                self._said = self.percent
        elif self.percent // 10 > self._said // 10:
            typer.echo(f"{self.percent} %", err=True)
            self._said = self.percent
