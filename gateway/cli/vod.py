"""`millrace vod …`: makes HLS, a poster and a thumbnail of one video. It needs no running gateway."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli import common
from gateway.lib.numbers import read_integer
from gateway.lib.process import MAX_PID, alive

if TYPE_CHECKING:
    from gateway.ports.vod_names import VodNames
    from gateway.settings import Settings
    from gateway.workers.package_protocol import PackageResult
    from gateway.workers.vod_bounds import Bounds

_WIDTH = 32  # characters of the progress bar
_S3 = "s3://"
_SCRATCH = ".millrace-vod-"  # the beginning of the name of the folder for unfinished files


def vod(
    sources: common.Sources,
    source: Annotated[str, typer.Argument(metavar="FILE|s3://…", help="The video.")],
    out: Annotated[
        str | None,
        typer.Option(
            "--out",
            metavar="DIR|s3://…",
            help="The output: files are written below DIR/<name>/ and replace an earlier video of that name.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the job as JSON at the end.")] = False,
    mediaconvert_json: Annotated[
        bool,
        typer.Option(
            "--mediaconvert-json",
            help="Only print the equivalent MediaConvert job, with ROLE_ARN and QUEUE_ARN of the environment.",
        ),
    ] = False,
    unbounded: Annotated[
        bool,
        typer.Option(
            "--unbounded",
            help="No limits for the length of the video, the output and the time of the job "
            "(vod.film_seconds, vod.output_ratio, vod.job_ratio; --set changes one). Free disk space is still checked.",
        ),
    ] = False,
) -> None:
    """Make HLS, a poster and a thumbnail of a video.

    HLS: 10 s segments, H.264 of at most 5 Mbit/s, the audio as AAC.
    """
    settings = sources.settings()
    if mediaconvert_json:
        _print_mediaconvert(settings, source, out)
        return
    if not out:
        common.fail(common.USAGE, "--out is missing: a folder, or s3://bucket/prefix")
    if source.startswith(("http://", "https://")):
        common.fail(common.USAGE, f"{common.plain(source)}: expected a file or s3://bucket/key, no address of the web")
    raise typer.Exit(asyncio.run(_VodCommand(settings, source, out, as_json, unbounded).run()))


def _print_mediaconvert(settings: Settings, source: str, out: str | None) -> None:
    """Prints the job even if it is incomplete, and the missing parts on stderr."""
    from gateway.vod.mediaconvert import create_job

    names = _names(source)
    if out:
        destination = f"{out.rstrip('/')}/{names.base}/"
    else:
        destination = f"{source.rpartition('/')[0] or '.'}/{names.base}/"
    role, queue = os.environ.get("ROLE_ARN", ""), os.environ.get("QUEUE_ARN", "")
    job = create_job(
        source, destination, role, queue, bitrate=settings.vod.bitrate, segment=round(settings.vod.segment)
    )
    common.print_json(job)
    if not role:
        typer.echo("millrace: ROLE_ARN is not set: MediaConvert needs a Role", err=True)
    if not source.startswith((_S3, "https://")) or not destination.startswith(_S3):
        typer.echo("millrace: MediaConvert reads from s3:// or https:// and writes to s3://", err=True)
    if endpoint := os.environ.get("MEDIA_CONVERT_ENDPOINT_URL"):
        typer.echo(f"aws mediaconvert create-job --endpoint-url {endpoint} --cli-input-json file://…", err=True)


def _names(source: str) -> VodNames:
    """Returns the names of the output files of a source, made from its file name."""
    from gateway.channels.names import is_object_key
    from gateway.ports.vod_names import names_in, names_of

    try:
        base = names_of(source.rpartition("/")[2]).base
        if not is_object_key(base):
            raise ValueError("the name has characters that no path may have")
    except ValueError as error:
        common.fail(common.USAGE, f"{common.plain(source)}: {error}")
    return names_in(base)


class _VodCommand:
    """Makes one VOD and saves it in the output folder or bucket."""

    def __init__(self, settings: Settings, source: str, out: str, as_json: bool, unbounded: bool) -> None:
        self._settings = settings
        self._unbounded = unbounded
        self._source = source
        self._out = out
        self._as_json = as_json
        self._bar = _ProgressBar()
        self._warning = ""
        self._names = _names(source)

    async def run(self) -> int:
        """Returns the exit code. Ctrl-C and SIGTERM end the worker; its files are deleted."""
        from gateway.lib import log as logs
        from gateway.ports.errors import GatewayError
        from gateway.workers.vod_bounds import UnusableFilm

        logs.configure("error", self._settings.log.format)
        task = asyncio.current_task()
        assert task is not None, "asyncio.run runs this in a task"
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        try:
            outputs = await self._make()
        except asyncio.CancelledError:
            return self._report("CANCELED", {}, "canceled", 130)
        except (UnusableFilm, GatewayError) as error:
            return self._report("ERROR", {}, str(error), common.FAILED)
        except OSError as error:
            file = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes | os.PathLike) else ""
            other = f"{file}: " if file and _absolute(file) != _absolute(self._source) else ""
            return self._report("ERROR", {}, f"{other}{error.strerror or error}", common.FAILED)
        self._bar.full()
        return self._report("COMPLETE", outputs, None, 0)

    def _report(self, state: str, outputs: dict[str, str], error: str | None, code: int) -> int:
        from gateway.ports.job_queue import new_id

        self._bar.end()
        warning = self._warning if error is None else ""
        if text := error or (warning and f"warning: {warning}"):
            typer.echo(f"millrace: {common.plain(self._source)}: {common.plain(text)}", err=True)
        if self._as_json:
            job = {"id": new_id(time.time()), "state": state, "progress": self._bar.percent, "source": self._source}
            common.print_json({**job, "outputs": outputs, "error": error, "warning": warning or None})
        elif outputs:
            typer.echo(outputs["hls"])
        return code

    async def _make(self) -> dict[str, str]:
        from gateway.lib.metric_table import WORKER_RESTARTS
        from gateway.lib.metrics import Counter
        from gateway.vod.free_space import run_while_space
        from gateway.vod.package_client import request_package
        from gateway.vod.publishing import check_replaceable
        from gateway.workers.package_protocol import PackageRequest, VodEncoding
        from gateway.workers.vod_bounds import Bounds
        from gateway.workers.worker_pool import WorkerPool

        vod = self._settings.vod
        encoding = VodEncoding(vod.crf, vod.preset, vod.bitrate, vod.segment)
        bounds = Bounds(keep_free=vod.keep_free) if self._unbounded else Bounds.of(vod)
        workers = WorkerPool(self._settings.workers, Counter(WORKER_RESTARTS))
        with _scratch(self._out) as scratch:
            if not self._out.startswith(_S3):
                await asyncio.to_thread(check_replaceable, scratch.parent / self._names.base, self._names)
            folder = scratch / "made"
            await asyncio.to_thread(folder.mkdir)

            async def make_package() -> PackageResult:
                path = await self._local_path(scratch, bounds)
                request = PackageRequest(path, str(folder), self._names.base, encoding, bounds)
                return await request_package(workers, request, self._bar.show, vod.memory)

            result = await run_while_space(bounds, scratch, make_package)
            self._warning = result.warning
            return await self._save(result, folder)

    async def _local_path(self, scratch: Path, bounds: Bounds) -> str:
        """Returns the path of the video on this machine. Downloads it from a bucket if necessary."""
        from gateway.adapters.stores import open_bucket

        if not self._source.startswith(_S3):
            return _absolute(self._source)
        bucket, _, key = self._source.removeprefix(_S3).partition("/")
        async with open_bucket(bucket, self._settings.s3, self._settings.tls.ca) as store:
            path = scratch / f"film{os.path.splitext(key)[1][:10]}"
            await asyncio.to_thread(bounds.check_space, scratch, (await store.head(key)).size)
            await store.fetch(key, path)
        return str(path)

    async def _save(self, result: PackageResult, folder: Path) -> dict[str, str]:
        """Moves the finished files to the output. Returns their addresses by name."""
        from gateway.adapters.stores import open_bucket
        from gateway.ports.vod_names import names_in
        from gateway.vod.publishing import outputs, publish, replace_folder

        if not self._out.startswith(_S3):
            target = folder.parent.parent / self._names.base
            await asyncio.to_thread(replace_folder, folder, target, self._names)
            return {name: str(Path(self._out) / key) for name, key in outputs(self._names, result).items()}
        bucket, _, prefix = self._out.removeprefix(_S3).partition("/")
        prefix = prefix.strip("/")
        names = names_in(f"{prefix}/{self._names.base}" if prefix else self._names.base)
        async with open_bucket(bucket, self._settings.s3, self._settings.tls.ca) as store:
            keys = await publish(store, names, folder, result)
        return {name: f"{_S3}{bucket}/{key}" for name, key in keys.items()}


@contextmanager
def _scratch(output: str) -> Iterator[Path]:
    """Creates a hidden folder for unfinished files, and deletes it at the end.

    It is inside the output folder, so that one rename publishes the result. For a bucket it is a temporary folder.
    """
    out = None if output.startswith(_S3) else Path(output).expanduser()
    is_new = out is not None and not out.exists()
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        for old in out.glob(f"{_SCRATCH}*-*"):  # left by killed commands
            pid = read_integer(old.name.removeprefix(_SCRATCH).partition("-")[0], MAX_PID)
            if pid is not None and not alive(pid):
                shutil.rmtree(old, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{_SCRATCH}{os.getpid()}-", dir=out)).resolve()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if is_new and out is not None:
            with suppress(OSError):  # not empty
                out.rmdir()


def _absolute(path: str) -> str:
    return os.path.abspath(os.path.expanduser(path))


class _ProgressBar:
    """A progress bar on a terminal, else a line for each 10 %. It uses stderr, because stdout has the result."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self.percent = 0
        self._shown_percent = -1

    def show(self, progress: float) -> None:
        """Shows the progress, 0 to 1. It never goes back."""
        self.percent = max(self.percent, min(99, int(progress * 100)))
        self._draw()

    def full(self) -> None:
        self.percent = 100
        self._draw()

    def end(self) -> None:
        """Ends the line of the bar."""
        if self._terminal and self._shown_percent >= 0:
            typer.echo("", err=True)

    def _draw(self) -> None:
        if self._terminal:
            if self.percent != self._shown_percent:
                full = self.percent * _WIDTH // 100
                typer.echo(f"\r[{'#' * full}{' ' * (_WIDTH - full)}] {self.percent:3d} %", err=True, nl=False)
                self._shown_percent = self.percent
        elif self.percent // 10 > self._shown_percent // 10:
            typer.echo(f"{self.percent} %", err=True)
            self._shown_percent = self.percent
