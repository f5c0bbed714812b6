"""The command line: the commands of `millrace`, and its exit codes."""

import io
import itertools
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from typer.completion import completion_init  # type: ignore[attr-defined]
from typer.core import TyperGroup

from gateway import __version__
from gateway.cli import (
    channels,
    cloudfront,
    common,
    copying,
    fleet,
    ivs,
    keys,
    running,
    service,
    setup,
    storage,
    users,
    vod,
)
from gateway.lib import lean_structlog as lean_structlog  # imported for its side effect
from gateway.lib import log as logs
from gateway.lib.redact import mask

if TYPE_CHECKING:
    from gateway.processes.worker_link import WorkerLink

# The commands by what they are for, in the order of the help.
_SECTIONS: Final = {
    "Servers": ("serve", "edge", "worker"),
    "Setup": ("doctor", "check-config", "install-service", "token", "backup", "restore", "copy", "completion"),
    "A fleet": ("invite", "join", "leave"),
    "A running gateway": ("status", "streams", "nodes", "events", "kick", "api"),
    "Stores": ("channel", "user", "sign", "verify"),
    "Videos": ("vod",),
    "AWS": ("ivs", "cloudfront", "storage"),
}
# What the processes of a node would import after their start. They share it, see `gateway.processes.forking`. Importing
# these starts no thread and leaves no file open.
NODE_MODULES: Final = (
    *("uvloop", "gateway.app.parts.api", "gateway.app.parts.node_endpoint", "gateway.cluster.cluster_member"),
    *("gateway.adapters.local.objects", "gateway.adapters.local.stores", "gateway.processes.metrics_aggregator"),
    *("gateway.ingest.rtmp.listener", "gateway.ingest.srt.listener", "gateway.ingest.webrtc.whip"),
    *("gateway.ingest.websocket.listener", "gateway.playback.rtmp", "gateway.playback.webrtc.whep"),
    "gateway.playback.webrtc.whep_output",
    *("gateway.inputs.playlist", "gateway.inputs.pull", "gateway.inputs.slate"),
    *("gateway.outputs.captions.captions_output", "gateway.outputs.kinesis.kvs_output"),
    *("gateway.outputs.ladder.remote_ladder", "gateway.outputs.motion.motion_output"),
    *("gateway.outputs.snapshot.snapshot_output", "gateway.outputs.watermark.watermark_output"),
)
_EPILOG: Final = """\b
Examples:
  millrace doctor
  millrace serve --welcome
  millrace channel create --name Stage --expires never
  millrace events --follow

Documentation: docs/ in the source; for the API also /docs at the console of a running gateway.
"""


class _Commands(TyperGroup):
    """The commands in the order and the sections of the help."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Returns the names in the order of the help."""
        return [*itertools.chain(*_SECTIONS.values())]

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Writes one list for each section."""
        for title, names in _SECTIONS.items():
            limit = formatter.width - 6 - max(map(len, self.commands))
            rows = [(name, self.commands[name].get_short_help_str(limit)) for name in names]
            with formatter.section(title):
                formatter.write_dl(rows)


app = typer.Typer(
    name="millrace",
    cls=_Commands,
    help=(
        "Millrace, a live media gateway. In: RTMP(S), SRT, SRTLA, RTSP, WebSocket and WebRTC (WHIP), also from a "
        "browser's camera. Out: HTTP-FLV, WS-FLV, RTMP, SRT, RTSP, HLS, LL-HLS, DASH and WebRTC (WHEP), with pages for "
        "browsers."
    ),
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.add_typer(channels.app, name="channel")
app.add_typer(users.app, name="user")
app.add_typer(setup.token_app, name="token")
app.add_typer(ivs.app, name="ivs")
app.add_typer(cloudfront.app, name="cloudfront")
app.add_typer(storage.app, name="storage")
command: Callable[..., None]
for command in (running.status, running.streams, running.nodes, running.events, fleet.invite, fleet.join, fleet.leave):
    common.command(app)(command)
for command in (keys.sign, keys.verify, setup.check_config, setup.doctor, setup.backup, setup.restore):
    common.command(app)(command)
for command in (running.kick, running.api, vod.vod):
    common.command(app, no_args_is_help=True)(command)
app.command(no_args_is_help=True)(setup.completion)
app.command()(service.install_service)
app.command(no_args_is_help=True)(copying.copy)


def _version(requested: bool) -> None:
    if requested:
        typer.echo(f"millrace {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Declares the options of `millrace` itself."""


@common.command(app)
def serve(
    sources: common.Sources,
    welcome: Annotated[
        bool, typer.Option("--welcome", help="Print a first channel: its push address and its play addresses.")
    ] = False,
    link: common.LinkOption = None,
) -> None:
    """Run the gateway until SIGTERM or Ctrl-C."""
    from gateway.processes.worker_settings import STALE_FILES, worker_count

    settings = sources.ready_settings()
    if link is None and worker_count(settings) > 1:
        from gateway.processes import master

        command = ("gateway", "serve", *(["--welcome"] if welcome else []), *sources.arguments())
        service = master.Service(
            command, lambda settings: settings.listeners(), sources.ready_settings, stale=STALE_FILES
        )
        raise typer.Exit(master.run(service, settings))
    common.load_outputs()  # before the API describes the fields of channels
    from gateway.app import gateway as gateway

    raise typer.Exit(gateway.run(settings, welcome=welcome, link=_worker_link(link, NODE_MODULES)))


@common.command(app)
def edge(sources: common.Sources, link: common.LinkOption = None) -> None:
    """Run a playback edge for the streams of gateways. It runs until SIGTERM or Ctrl-C."""
    from gateway.processes.worker_settings import worker_count

    settings = sources.edge_settings()
    if link is None and worker_count(settings) > 1:
        from gateway.adapters.local.data_folder import EDGE_RUN
        from gateway.processes import master
        from gateway.processes.master import edge_endpoints

        command = ("gateway", "edge", *sources.arguments())
        service = master.Service(command, edge_endpoints, sources.edge_settings, folder=EDGE_RUN)
        raise typer.Exit(master.run(service, settings))
    from proxy.edge import app as playback_edge

    raise typer.Exit(playback_edge.run(settings, _worker_link(link, ("uvloop",))))


def _worker_link(requests: int | None, modules: Sequence[str] = ()) -> "WorkerLink | None":
    """Returns the link of a worker to its master, in the worker. Its parent stays in this function, and ends in it.

    requests: see `serve_forks`; None: a single process, without a link. modules: those that it imports first.
    """
    if requests is None:
        return None
    from gateway.processes.forking import serve_forks
    from gateway.processes.worker_link import WorkerLink

    for module in modules:
        import_module(module)
    link = serve_forks(requests)
    if link is None:
        raise typer.Exit
    return WorkerLink(link)


@common.command(app)
def worker(sources: common.Sources) -> None:
    """Make the renditions of one channel. CHANNEL_NAME is its id, ADDRESS a gateway on another machine."""
    settings = sources.settings()
    from gateway.app import worker as media_worker

    raise typer.Exit(media_worker.run(settings))


# ClickException of the copy of click in typer, which has its own copy since 0.20.
_UserMistake: type[Exception] = typer.BadParameter.__mro__[2]


def run(arguments: list[str]) -> int:
    """Runs one command and returns its exit code. A user's mistake is one line on stderr.

    The code of a mistake is 2 for usage and configuration, else 1.
    """
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")  # LANG=en_US, for example, has no Chinese names
    logs.configure("warning")  # of the stores, on stderr: stdout may be JSON. Servers set their own level and format
    completion_init()  # for the requests of the shells' scripts, which `millrace completion` prints
    try:
        code = app(args=arguments, prog_name="millrace", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except _UserMistake as e:
        return _print_lines([e.format_message()], getattr(e, "exit_code", common.USAGE))  # type: ignore[attr-defined]
    except (typer.Abort, KeyboardInterrupt):
        return 130
    except Exception as e:
        return _explain(e)


def _explain(error: Exception) -> int:
    """Prints an error of Millrace or the system as a message.

    Any other error is a bug and is raised with its traceback.
    """
    from gateway.lib.sockets import ListenError
    from gateway.ports.errors import GatewayError, InvalidField, TooLarge
    from gateway.settings import SettingsError

    if isinstance(error, SettingsError):
        return _print_lines(error.problems, common.USAGE)
    if isinstance(error, InvalidField | TooLarge):
        return _print_lines([str(error)], common.USAGE)
    if isinstance(error, GatewayError | ListenError | OSError):
        return _print_lines([str(error)], common.FAILED)
    raise error


def _print_lines(lines: list[str] | tuple[str, ...], code: int) -> int:
    for line in lines:
        print(line if "\n" in line else mask(f"millrace: {line}"), file=sys.stderr)  # help has no prefix
    return code
