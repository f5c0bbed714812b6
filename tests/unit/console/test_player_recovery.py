"""A player page recovers from everything that stops its picture, and starts nothing that the viewer has paused."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.node import CONSOLE, run
from tests.support.player_page import WORLD, player_page


def test_an_engine_that_hangs_after_a_lost_connection_is_given_up() -> None:
    told = player_page("""
        open();
        await plays(6);
        gateway.is = "away";
        engines[0].end("lost");
        await pass(1);
        gateway.is = "there";
        await pass(15);
        out({ opened: opened(), closed: engines[1]?.closed });
    """)
    assert told == {"opened": "a,a,b", "closed": True}


def test_a_gateway_that_accepts_and_never_answers_counts_as_away() -> None:
    told = player_page("""
        open();
        await plays(6);
        gateway.is = "silent";
        await pass(30);
        out({ opened: opened(), state: view.state });
    """)
    assert told == {"opened": "a", "state": "lost"}


@pytest.mark.parametrize(("kinds", "opened"), [(["audio"], "a,a"), (["audio", "video"], "a")])
def test_a_still_page_opens_a_stream_that_has_lost_its_pictures_again(kinds: list[str], opened: str) -> None:
    """Players by script wait for more media of each kind that they have opened."""
    told = player_page(f"""
        const of = (...kinds) => kinds.map((kind) => ({{ kind }}));
        gateway.status.tracks = of("video", "audio");
        open();
        await plays(6);
        gateway.status.tracks = of(...{kinds});
        await pass(3);
        out({{ opened: opened(), shown: shown.includes("lost") }});
    """)
    assert told == {"opened": opened, "shown": False}


@pytest.mark.parametrize(("width", "opened"), [(640, "a,a"), (0, "a")])
def test_a_page_that_began_with_pictures_of_before_opens_the_sound_again(width: int, opened: str) -> None:
    """A playlist still lists segments with pictures when a stream has no more of them."""
    told = player_page(f"""
        gateway.status.tracks = [{{ kind: "audio" }}];
        video.videoWidth = {width};
        open();
        await plays(6);
        await pass(3);
        out(opened());
    """)
    assert told == opened


def test_a_page_that_the_back_button_brings_back_plays_again() -> None:
    told = player_page("""
        open();
        await plays(6);
        leaves();
        await pass(60);
        returns();
        await plays(1);
        out({ opened: opened(), state: view.state, moves: video.currentTime > 0 });
    """)
    assert told == {"opened": "a,a", "state": "live", "moves": True}


def test_the_page_plays_live_if_the_player_that_rewinds_does_not_load() -> None:
    told = player_page("""
        fakes["./hls-engine.js"] = "throw new Error(`not loaded`)";
        open();
        await plays(6);
        bar.go(1.69e12);
        await plays(1);
        out({ opened: opened(), state: view.state });
    """)
    assert told == {"opened": "a,a", "state": "live"}


def test_the_page_is_loaded_again_if_no_player_can_be_loaded() -> None:
    """Firefox before 155 keeps the failure of a module for the page."""
    told = player_page("""
        let reloads = 0;
        location.reload = () => { reloads++; };
        for (const one of ways) one.load = () => Promise.reject(new TypeError("error loading a module"));
        open();
        await pass(20);
        const early = reloads;
        await pass(30);
        out({ early, reloads: reloads > 0, state: view.state });
    """)
    assert told == {"early": 0, "reloads": True, "state": "lost"}


def test_another_way_is_tried_if_an_engine_cannot_be_made() -> None:
    told = player_page("""
        ways[0].load = async () => ({ open() { throw new Error("broken"); }, unsupported: null });
        open();
        await pass(5);
        await plays(1);
        out({ opened: opened(), state: view.state, reported });
    """)
    assert told == {"opened": "b", "state": "live", "reported": ["broken"]}


def test_a_rewound_player_that_never_plays_is_left_for_the_live_picture() -> None:
    told = player_page(
        """
        open();
        for (const why of ["lost", "codec"]) {
          await settled();
          engines.at(-1).end(why);
          await pass(5);
          await plays(6);
          bar.go(1.69e12);
        }
        out(opened());
        """,
        "?t=1690000000",
    )
    assert told == "rewound,a,rewound,a"


def test_a_rewound_player_that_has_played_is_opened_again_at_its_date() -> None:
    told = player_page(
        """
        open();
        await plays(6);
        engines[0].end("lost");
        await pass(5);
        out(opened());
        """,
        "?t=1690000000",
    )
    assert told == "rewound,rewound"


_LATE = """
    const { load } = ways[1];
    ways[1].load = () => new Promise((done) => setTimeout(() => done(load()), 3000));
    const viewer = open();
    await plays(6);
    viewer.restart("b");
    await pass(1);
"""


def test_the_last_of_two_quick_choices_plays() -> None:
    told = player_page(f"""{_LATE}
        viewer.restart("a");
        await pass(4);
        await plays(1);
        out(opened());
    """)
    assert told == "a,a"


def test_the_time_bar_works_while_a_player_is_loaded() -> None:
    told = player_page(f"""{_LATE}
        bar.go(1.69e12);
        await pass(4);
        await plays(1);
        out(opened());
    """)
    assert told == "a,rewound"


def test_a_choice_during_a_status_request_ends_the_pause_after_it() -> None:
    told = player_page("""
        ways.pop();
        const viewer = open();
        await settled();
        let before = 0;
        for (let n = 0; n < 9; n++) {
          before = engines.length;
          engines.at(-1).end("lost");
          while (engines.length === before) await pass(0.25);
        }
        before = engines.length;
        const { fetch } = globalThis;
        globalThis.fetch = (...all) => new Promise((done) => setTimeout(() => done(fetch(...all)), 1000));
        engines.at(-1).end("lost");
        await pass(0.75);
        viewer.restart("a");
        await pass(3);
        out(engines.length - before);
    """)
    assert told == 1


def test_a_stream_that_may_not_start_by_itself_is_not_received_for_ever() -> None:
    told = player_page("""
        video.forbidden = true;
        open();
        await plays(1);
        const before = [view.state, engines[0].closed];
        await pass(40);
        const after = [view.state, engines[0].closed];
        video.forbidden = false;
        void view.play();
        await plays(1);
        out({ before, after, opened: opened(), state: view.state });
    """)
    assert told == {"before": ["blocked", False], "after": ["blocked", True], "opened": "a,a", "state": "live"}


def test_a_long_pause_closes_the_player_until_the_viewer_plays() -> None:
    told = player_page("""
        open();
        await plays(6);
        video.pause();
        await pass(40);
        const after = [opened(), view.state, engines[0].closed];
        void view.play();
        await plays(1);
        out({ after, opened: opened(), state: view.state });
    """)
    assert told == {"after": ["a", "blocked", True], "opened": "a,a", "state": "live"}


def test_a_paused_stream_stays_paused_when_its_connection_is_lost() -> None:
    told = player_page("""
        open();
        for (const date of [null, 1.69e12]) {
          if (date) bar.go(date);
          await plays(6);
          video.pause();
          engines.at(-1).end("lost");
          await plays(10);
          shown.push([opened(), view.state, video.paused]);
          void view.play();
          await plays(1);
        }
        out({ shown: shown.filter(Array.isArray), opened: opened(), state: view.state });
    """)
    first, second = told["shown"]
    assert first == ["a", "blocked", True]
    assert second == ["a,a,rewound", "blocked", True]
    assert (told["opened"], told["state"]) == ("a,a,rewound,rewound", "live")


def test_a_paused_stream_stays_paused_when_the_back_button_returns() -> None:
    told = player_page("""
        open();
        await plays(6);
        video.pause();
        for (let n = 0; n < 2; n++) {
          leaves();
          returns();
          await plays(10);
        }
        out({ opened: opened(), state: view.state });
    """)
    assert told == {"opened": "a", "state": "blocked"}


def test_a_hidden_tab_that_the_browser_paused_is_opened_again() -> None:
    told = player_page("""
        open("a");
        await plays(6);
        Object.assign(document, { hidden: true });
        video.muted = true;
        video.pause();
        engines[0].end("lost");
        await pass(5);
        await plays(1);
        out([opened(), view.state]);
    """)
    assert told == ["a,a", "live"]


@pytest.mark.parametrize(
    ("muted", "seconds", "resumes"),
    [("true", 0, True), ("true", 5, True), ("false", 0, True), ("false", 5, False)],
    ids=["muted", "muted later", "a phone that was locked", "paused by the viewer's headset"],
)
def test_a_hidden_tab_that_the_browser_paused_for_long_plays_when_it_is_seen_again(
    muted: str, seconds: int, resumes: bool
) -> None:
    told = player_page(f"""
        const hides = (hidden) => {{
          Object.assign(document, {{ hidden }});
          document.dispatchEvent(new Event("visibilitychange"));
        }};
        open("a");
        video.muted = {muted};
        await plays(6);
        hides(true);
        await plays({seconds});
        video.pause();
        await pass(60);
        const left = [opened(), engines[0].closed];
        hides(false);
        await plays(1);
        out([left, opened(), view.state]);
    """)
    assert told == [["a", True], "a,a" if resumes else "a", "live" if resumes else "blocked"]


def test_a_pause_of_the_viewer_before_the_tab_was_hidden_stays() -> None:
    told = player_page("""
        open("a");
        video.muted = true;
        await plays(6);
        video.pause();
        for (const hidden of [true, false]) {
          Object.assign(document, { hidden });
          document.dispatchEvent(new Event("visibilitychange"));
          await pass(60);
        }
        await plays(1);
        out([opened(), view.state]);
    """)
    assert told == ["a", "blocked"]


@pytest.mark.parametrize(("muted", "expected"), [("false", "a,b"), ("true", "a")])
def test_a_tab_that_is_only_heard_notices_that_nothing_comes(muted: str, expected: str) -> None:
    told = player_page(f"""
        open();
        await settled();
        delete engines[0].times;
        await plays(6);
        video.muted = {muted};
        Object.assign(document, {{ hidden: true }});
        await pass(20);
        out(opened());
    """)
    assert told == expected


def test_a_tab_that_was_opened_in_the_background_waits_for_its_viewer() -> None:
    told = player_page("""
        Object.assign(document, { hidden: true });
        open();
        await settled();
        delete engines[0].times;
        await pass(60);
        out(opened());
    """)
    assert told == "a"


def element_player(script: str) -> Any:
    """Runs `script` for an element that plays a channel with FLV. Returns the value given to `out`."""
    begin = f"""
        const {{ WAYS }} = await import(`{(CONSOLE / "players/ways.js").as_uri()}`);
        for (const one of WAYS) one.load = way(one.id).load;
        globalThis.RTCPeerConnection = globalThis.MediaSource = class {{ static isTypeSupported() {{ return true; }} }};
        gateway.status.outputs = gateway.status.ready = ["flv"];
        const player = new StreamPlayer(video, "http://media.test/channel/", "", {{
          state() {{}}, about() {{}}, qualities() {{}},
        }});
        player.begin(true);
        await settled();
    """
    return run("element/stream-player.js", "StreamPlayer", begin + script, {}, before=WORLD)


@pytest.mark.parametrize(("muted", "expected"), [("false", True), ("true", False)])
def test_an_element_that_is_only_heard_notices_that_nothing_comes(muted: str, expected: bool) -> None:
    told = element_player(f"""
        delete engines[0].times;
        await plays(6);
        video.muted = {muted};
        Object.assign(document, {{ hidden: true }});
        await pass(20);
        out(engines[0].closed);
    """)
    assert told == expected


@pytest.mark.parametrize(("kind", "expected"), [("audio", True), ("video", False)])
def test_an_element_opens_a_stream_that_has_lost_its_pictures_again(kind: str, expected: bool) -> None:
    told = element_player(f"""
        gateway.status.tracks = [{{ kind: "video" }}];
        engines[0].end("tracks");
        await plays(6);
        gateway.status.tracks = [{{ kind: "{kind}" }}];
        await pass(5);
        out(engines[1].closed);
    """)
    assert told == expected


def test_a_paused_stream_is_not_opened_again_in_a_faster_way() -> None:
    told = player_page("""
        const { ways: all } = open();
        all.mayReturn = () => video.paused;
        await plays(25);
        video.pause();
        await pass(20);
        out(opened());
    """)
    assert told == "a"


def test_a_decode_error_after_good_playback_opens_the_stream_again() -> None:
    told = player_page("""
        open("a");
        await plays(6);
        engines[0].end("codec");
        await pass(4);
        const first = opened();
        engines[1].end("codec");
        await pass(4);
        out([first, opened()]);
    """)
    assert told == ["a,a", "a,a,b"]


@pytest.mark.parametrize(
    ("change", "after"),
    [
        ("await pass(60)", ["codec", "a,b"]),
        ("status.tracks[0].codec = `avc1.64001F`; await pass(9); await plays(2)", ["live", "a,b,a"]),
        ("status.live = false; await pass(9)", ["waiting", "a,b"]),
    ],
)
def test_a_page_that_cannot_play_a_stream_looks_for_its_next_codecs_and_its_end(change: str, after: list[str]) -> None:
    """Its owner changes the encoder from HEVC to H.264, or a film of H.264 follows."""
    told = player_page(f"""
        const {{ status }} = gateway;
        status.tracks = [{{ kind: "video", codec: "hvc1.1.6.L93" }}];
        open();
        await pass(1);
        engines[0].end("codec");
        await pass(3);
        engines[1].end("codec");
        await pass(30);
        const before = [view.state, opened()];
        {change};
        out([before, [view.state, opened()]]);
    """)
    assert told == [["codec", "a,b"], after]


def test_a_page_tries_again_while_a_manifest_still_has_the_codecs_of_before() -> None:
    told = player_page("""
        const { status } = gateway;
        const fail = async () => { for (const engine of engines) engine.end("codec"); await pass(3); };
        status.tracks = [{ kind: "video", codec: "hvc1.1.6.L93" }];
        open();
        await pass(1);
        for (let n = 0; n < 8; n++) await fail();
        const before = opened();
        status.tracks[0].codec = "avc1.64001F";
        for (let n = 0; n < 9; n++) await fail();
        out([before, engines.length > 5]);
    """)
    assert told == ["a,b", True]


def test_a_page_whose_stream_changes_to_codecs_that_it_cannot_play_waits_for_those_of_before() -> None:
    """A film of HEVC between two of H.264."""
    told = player_page("""
        const { status } = gateway;
        status.tracks = [{ kind: "video", codec: "avc1.64001F" }];
        open("a");
        await plays(2);
        status.tracks[0].codec = "hvc1.1.6.L93";
        for (let n = 0; n < 12; n++) { for (const engine of engines) engine.end("codec"); await pass(3); }
        const before = view.state;
        status.tracks[0].codec = "avc1.64001F";
        await pass(9);
        await plays(2);
        out([before, view.state]);
    """)
    assert told == ["codec", "live"]
