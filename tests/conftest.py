"""How property tests run: the same examples each time, at whatever speed the machine has, and failures told as found.

`HYPOTHESIS_PROFILE=search` looks at new examples each time, keeps what it found, and makes failures small.
"""

from __future__ import annotations

import gc
import logging
import os
from collections.abc import Generator
from pathlib import Path

import pytest
import structlog
from hypothesis import Phase, settings

from tests.support.ministack import ministack_server, ministack_url
from tests.support.moto import moto_url
from tests.support.run_folder import run_folder

__all__ = ["ministack_server", "ministack_url", "moto_url"]  # fixtures for whoever asks by name

# Making a failing timetable smaller runs it thousands of times: minutes in which nothing is told.
_WITHOUT_SHRINKING = (Phase.explicit, Phase.generate)

settings.register_profile(
    "default", derandomize=True, deadline=None, database=None, phases=_WITHOUT_SHRINKING, max_examples=40
)
settings.register_profile("search", deadline=None, print_blob=True, max_examples=500)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

# moto's server tells every request; where a test has switched our log on, that would be what a command says.
logging.getLogger("werkzeug").setLevel(logging.ERROR)

# structlog's own choice, rich, shows all local variables of a traceback: seconds for one.
*_processors, _ = structlog.get_config()["processors"]
_renderer = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
structlog.configure(processors=[*_processors, _renderer])


def pytest_configure() -> None:
    """The workers find the folder of this run in their environment."""
    run_folder()


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What collecting makes, a million objects, stays to the end: no collection of garbage looks through it."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()
        gc.set_threshold(50_000, 50, 50)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Lists the tests that failed in the file `FAILED_TESTS`, for `tools/suites`."""
    listed = os.environ.get("FAILED_TESTS")
    if listed and "PYTEST_XDIST_WORKER" not in os.environ:
        reports = [*terminalreporter.getreports("failed"), *terminalreporter.getreports("error")]
        with Path(listed).open("a") as file:
            file.writelines(f"{name}\n" for name in dict.fromkeys(report.nodeid for report in reports))


# What takes minutes, the longest first: begun last, it would keep one worker busy when the others have nothing left.
# A file that is not here comes behind them, in its turn. What waits and what computes take turns.
LONG = (
    "integration/outputs/kinesis/test_kvs_live.py",
    "integration/outputs/ladder/test_transcode_ladder.py",
    "integration/proxy/test_haproxy.py",
    "integration/outputs/test_watermark.py",
    "integration/inputs/test_inputs.py",
    "integration/outputs/recording/test_recording.py",
    "integration/vod/test_vod_package.py",
    "integration/proxy/test_edge.py",
    "integration/outputs/ladder/test_ladder_clients.py",
    "integration/processes/test_reload.py",
    "integration/cli/test_cli.py",
    "integration/workers/test_browser_container.py",
    "integration/webrtc/test_several_nodes.py",
    "integration/outputs/kinesis/test_kvs_objects.py",
    "integration/adapters/test_dynamo_registry.py",
    "integration/processes/test_one_gateway.py",
    "integration/vod/test_vod_cli.py",
    "integration/outputs/recording/test_clips.py",
    "integration/vod/test_vod_runner.py",
    "integration/playback/test_rewind.py",
    "integration/workers/test_ecs_workers.py",
    "integration/ingest/test_ws_gateway.py",
    "integration/processes/test_deaths.py",
    "integration/processes/test_begin_and_end.py",
    "integration/adapters/test_channel_store.py",
    "integration/cluster/test_spread.py",
    "integration/outputs/ladder/test_ladder_packaging.py",
    "integration/outputs/browser/test_browser_outputs.py",
    "integration/deploy/test_templates.py",
    "integration/playback/test_rewind_bucket.py",
    "integration/cluster/test_nodes.py",
    "integration/playback/test_stream_beginning.py",
    "integration/ingest/test_ws_push.py",
    "integration/outputs/recording/test_media.py",
    "conformance/test_fleet.py",
    "browser/test_console_channels.py",
    "browser/test_broadcast.py",
    "browser/test_ladder.py",
    "browser/test_player_comfort.py",
    "browser/test_player_breaks.py",
    "browser/test_players.py",
    "browser/test_player_states.py",
    "browser/test_console_nodes.py",
    "browser/test_player_quality.py",
    "browser/test_console_views.py",
    "browser/test_player_embed.py",
    "browser/test_docs_page.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long files first; each keeps the order of its tests."""
    rank = {f"tests/{name}": place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: rank.get(item.nodeid.partition("::")[0], len(rank)))
