"""Rules of the gateway's code: which modules may start tasks, print or read the clock, and how long a file may be."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Container, Iterator
from graphlib import TopologicalSorter

import pytest

from tests.architecture.sources import inside, modules, name, nodes, packaged

MAX_LINES = 600  # one idea may be long: cut where a second noun appears, not where a number is reached

# Who writes to the terminal beside the log, and what.
PRINTS = {
    "gateway/lib/log.py": "the log itself",
    "gateway/program.py": "errors of the command line",
    "gateway/app/process.py": "why a gateway, an edge or a media worker cannot start",
    "gateway/app/node.py": "a new admin token",
    "gateway/app/gateway.py": "the greeting of `make run`",
    "gateway/app/doctor.py": "its report",
    "gateway/cli/": "what a command was asked for",
    "gateway/workers/programs/": "what a media worker says before it ends: the gateway logs it",
}

# Modules whose answers follow from what they are given alone: time comes as an argument.
TIMELESS = (
    "gateway/media/", "gateway/formats/", "gateway/protocols/",
    "gateway/packaging/flv_output.py", "gateway/packaging/rtmp_output.py", "gateway/packaging/cmaf/track.py",
    "gateway/packaging/cmaf/dash_manifest.py",
    "gateway/packaging/cmaf/video_track_builder.py", "gateway/packaging/cmaf/audio_track_builder.py",
    "gateway/packaging/segmenter.py",
    "gateway/packaging/timing.py", "gateway/packaging/ts/packager.py",
    "gateway/packaging/segment_window.py",
    "gateway/live/gop_cache.py", "gateway/channels/names.py", "gateway/channels/expiry.py",
    "gateway/channels/fields.py",
    "gateway/channels/relay_urls.py",
    "gateway/http/request.py", "gateway/http/websocket.py", "gateway/playback/cloudfront.py",
    "gateway/webrtc/ice.py", "gateway/webrtc/paths.py", "gateway/listeners/framing.py", "gateway/webrtc/candidates.py",
    "gateway/webrtc/peer.py", "gateway/webrtc/dtls_alerts.py",
    "gateway/http/forwarded.py", "gateway/lib/bit_reader.py", "gateway/lib/redact.py",
)  # fmt: skip
CLOCKS = {"time", "random", "secrets", "uuid"}

# Bases whose methods are for their heirs to write.
BASES = {"gateway/packaging/packager.py": "Packager", "gateway/protocols/rtmp/handshake.py": "Handshake",
         "gateway/cluster/members/peers.py": "NodeLink"}  # fmt: skip


def called(node: ast.AST) -> str:
    """The last name of what a call calls."""
    function = node.func if isinstance(node, ast.Call) else node
    return (
        function.attr if isinstance(function, ast.Attribute) else function.id if isinstance(function, ast.Name) else ""
    )


def _is(node: ast.AST, dotted: str) -> bool:
    """Whether a node is an attribute of a name. `ast.unparse` of all nodes takes seconds."""
    owner, _, attribute = dotted.partition(".")
    return (
        isinstance(node, ast.Attribute)
        and node.attr == attribute
        and isinstance(node.value, ast.Name)
        and node.value.id == owner
    )


def imports(module: str) -> Iterator[str]:
    for node in inside(module):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").partition(".")[0]


def test_only_one_module_starts_tasks() -> None:
    """A task that nobody awaits loses its error. `gateway.lib.tasks` awaits them."""
    starts = {"create_task", "ensure_future", "run_coroutine_threadsafe", "start_soon"}
    found = {module for module, call in nodes(ast.Call) if called(call) in starts}
    assert found == {"gateway/lib/tasks.py"}


# Loops that end with the stream, input, connection or job that they belong to. These supervise or report them.
ENDING_LOOPS = {
    "gateway/app/worker.py",
    "gateway/ingest/webrtc/converted_pictures.py",
    "gateway/ingest/websocket/session.py",
    "gateway/inputs/pull/rtsp_pull.py",
    "gateway/inputs/slate/slate_source.py",
    "gateway/inputs/switcher.py",
    "gateway/live/shelf.py",
    "gateway/outputs/browser/on_demand.py",
    "gateway/outputs/kinesis/kvs_output.py",
    "gateway/outputs/kinesis/kvs_running_job.py",
    "gateway/outputs/ladder/ladder_output.py",
    "gateway/outputs/relay/relay_output.py",
    "gateway/outputs/watermark/watermark_output.py",
    "gateway/processes/master.py",
    "gateway/srt/outgoing.py",
    "gateway/vod/free_space.py",
}


def test_no_loop_of_a_process_ends_by_an_exception() -> None:
    """A loop that lasts as long as its process is started by `Tasks.keep`, which starts it again after an exception.

    Such loops are called `run`, or they are functions of the same module that have no way out of `while True`.
    """
    found: dict[str, list[int]] = {}
    for module in modules():
        functions = [node for node in inside(module) if isinstance(node, ast.AsyncFunctionDef)]
        endless = {function.name for function in functions if _is_endless(function)}
        for call in (node for node in inside(module) if isinstance(node, ast.Call) and called(node) == "start"):
            inner = call.args[0] if call.args else None
            if isinstance(inner, ast.Call) and called(inner) in endless | {"run"}:
                found.setdefault(module, []).append(call.lineno)
    assert {module: found[module] for module in found.keys() - ENDING_LOOPS} == {}
    assert ENDING_LOOPS - found.keys() == set()


def _is_endless(function: ast.AsyncFunctionDef) -> bool:
    loops = [node for node in ast.walk(function) if isinstance(node, ast.While) and ast.unparse(node.test) == "True"]
    return any(not any(isinstance(node, ast.Return | ast.Break) for node in ast.walk(loop)) for loop in loops)


def test_no_worker_lets_pyav_log() -> None:
    """Its callback takes the GIL in the threads of libav, also for what its level hides.

    Who frees a decoder holds the GIL and waits for these threads. PyAV logs nothing unless it is asked to.
    """
    assert [module for module in modules() for node in inside(module) if _is(node, "av.logging")] == []


def test_no_child_process_imports_from_the_working_directory() -> None:
    """Without -P, Python looks for modules in the working directory first. Anybody may have written files there."""
    found, unsafe = 0, []
    for module in modules():
        for node in inside(module):
            if isinstance(node, ast.List | ast.Tuple) and node.elts and _is(node.elts[0], "sys.executable"):
                found += 1
                if len(node.elts) < 2 or ast.unparse(node.elts[1]) != "'-P'":
                    unsafe.append(f"{module}:{node.lineno}")
    assert unsafe == [] and found


def test_only_one_service_changes_stored_channels() -> None:
    """Much follows a change. The copy of a database is for gateways that do not run."""
    writes = {"add", "update", "delete", "put_deleted"}
    found = {
        module
        for module, call in nodes(ast.Call)
        if isinstance(call.func, ast.Attribute)
        and call.func.attr in writes
        and ast.unparse(call.func.value).rpartition(".")[2] in ("channels", "channel_store")
    }
    assert found == {"gateway/adapters/copying.py"}
    imports = [(module, node) for module in modules() for node in inside(module)]
    importing = {
        module
        for module, node in imports
        if isinstance(node, ast.ImportFrom) and any(name.name == "ChannelStore" for name in node.names)
    }
    assert importing == {
        *("gateway/channels/channel_changes.py", "gateway/adapters/stores.py"),
        "gateway/outputs/storage/media_deletion.py",  # it removes records of deleted channels
    }


def test_only_the_log_and_commands_print() -> None:
    found = {module for module, call in nodes(ast.Call) if called(call) in {"print", "echo", "secho"}}
    found |= {module for module, node in nodes(ast.Attribute) if _is(node, "sys.stdout") or _is(node, "sys.stderr")}
    assert [module for module in found if not module.startswith(tuple(PRINTS))] == []
    unused = [place for place in PRINTS if not any(module.startswith(place) for module in found)]
    assert unused == [], "these print no more"


@pytest.mark.parametrize("place", TIMELESS)
def test_modules_for_formats_and_protocols_do_not_import_clocks(place: str) -> None:
    found = [module for module in modules() if module.startswith(place)]
    assert found, f"{place} is gone"
    for module in found:
        assert not CLOCKS & set(imports(module)), module
        now = [
            ast.unparse(n)
            for n in inside(module)
            if isinstance(n, ast.Call) and called(n) in {"now", "utcnow", "today"}
        ]
        assert now == [], module


def test_every_module_has_a_docstring() -> None:
    found = {module: ast.get_docstring(tree) or "" for module, tree in modules().items() if tree.body}
    assert [module for module, text in found.items() if not text] == []
    unfinished = [module for module, text in found.items() if not text.partition("\n\n")[0].endswith((".", ":"))]
    assert unfinished == [], "their docstrings begin with no sentence"


def test_only_one_helper_converts_digits_to_integers() -> None:
    """`int` raises for 4,300 digits, so a check that all characters are digits is not enough."""
    found = []
    for module in modules():
        calls = [node for node in inside(module) if isinstance(node, ast.Call)]
        checked = {
            ast.unparse(call.func.value)
            for call in calls
            if isinstance(call.func, ast.Attribute) and call.func.attr in {"isdecimal", "isdigit", "isnumeric"}
        }
        read = {ast.unparse(call.args[0]) for call in calls if called(call) == "int" and call.args}
        found += [f"{module}: {name}" for name in sorted(checked & read)]
    hot = ["gateway/diagnosis/cmcd.py: item", "gateway/diagnosis/cmcd.py: value"]  # ten numbers a request
    assert found == [*hot, "gateway/lib/numbers.py: text"]


def test_no_file_is_longer_than_600_lines() -> None:
    sizes = {name(path): len(path.read_text("utf-8").splitlines()) for path in packaged("*.py")}
    assert {module: size for module, size in sizes.items() if size > MAX_LINES} == {}


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Imports that only the type checker reads count too: the lower module then describes its need by a protocol."""
    known = {_dotted(module): module for module in modules()}
    graph = {dotted: _imports(module, known) - {dotted} for dotted, module in known.items()}
    TopologicalSorter(graph).prepare()  # raises CycleError


def _dotted(module: str) -> str:
    return module.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _imports(module: str, known: Container[str]) -> set[str]:
    """The modules that a module imports. Its packages are not counted, except where it imports a name of theirs."""
    found: set[str] = set()
    for node in inside(module):
        if isinstance(node, ast.Import):
            found.update(one.name for one in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = (f"{node.module}.{one.name}" for one in node.names)
            found.update(name if name in known else node.module for name in names)
    return found


def test_the_code_has_no_todo_comments() -> None:
    marks = ("TODO", "FIXME", "XXX", "HACK")
    mark = re.compile(rf"\b({'|'.join(marks)})\b")
    found = [
        f"{name(path)}:{number}"
        for path in packaged("*")
        if path.suffix in {".py", ".js", ".html", ".css"} and "vendor" not in path.parts
        for text in [path.read_text("utf-8")]
        if any(word in text for word in marks)
        for number, line in enumerate(text.splitlines(), 1)
        if mark.search(line)
    ]
    assert found == []


def test_only_base_classes_raise_not_implemented_error() -> None:
    found: dict[str, set[str]] = {}
    for module, node in nodes(ast.ClassDef):
        assert isinstance(node, ast.ClassDef)
        raised = (ast.unparse(n.exc) for n in ast.walk(node) if isinstance(n, ast.Raise) and n.exc is not None)
        if any(text.startswith("NotImplementedError") for text in raised):
            found.setdefault(module, set()).add(node.name)
    assert found == {module: {base} for module, base in BASES.items()}
    everywhere = sum(1 for _, n in nodes(ast.Raise) if "NotImplementedError" in ast.unparse(n))
    in_bases = sum(
        "NotImplementedError" in ast.unparse(n) for module in BASES for n in inside(module) if isinstance(n, ast.Raise)
    )
    assert everywhere == in_bases


def test_no_handler_silently_ignores_all_exceptions() -> None:
    """`except …: pass` hides faults; `contextlib.suppress` names the expected exception."""
    found = [
        f"{module}:{node.lineno}"
        for module, node in nodes(ast.ExceptHandler)
        if isinstance(node, ast.ExceptHandler)
        and all(isinstance(statement, ast.Pass) for statement in node.body)
        and (node.type is None or ast.unparse(node.type) in {"Exception", "BaseException"})
    ]
    assert found == []


def test_media_workers_import_no_unused_libraries() -> None:
    """A worker logs by its stderr and waits by threads, so that its start costs little CPU and memory."""
    programs = [m for m in modules() if m.startswith("gateway/workers/programs/") and m.endswith("_worker.py")]
    assert len(programs) > 8
    names = [program.removesuffix(".py").replace("/", ".") for program in programs]
    program = f"import sys, {', '.join(names)}; print(*{{'rich', 'aiohttp', 'pydantic'}} & sys.modules.keys())"
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert said.strip() == ""


def test_the_gateway_process_loads_no_decoder_no_aws_sdk_and_no_ciphers() -> None:
    """Native code that reads foreign media runs in workers, which may crash. Without AWS, no SDK is loaded.

    Ciphers take 7 MB. They come with the first passphrase of SRT, the first peer of WebRTC or a certificate of ours.
    """
    program = "import sys, gateway.app.gateway; print(*{'av', 'PIL', 'botocore', 'cryptography'} & sys.modules.keys())"
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert said.strip() == ""
