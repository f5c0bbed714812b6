"""Logs: one line per event, levels per channel, and no secrets."""

import contextlib
import io
import json
import logging
import os
import re
import resource
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest
import structlog
from hypothesis import assume, given
from hypothesis import strategies as st

from gateway.lib import log, redact
from tests.support.time_outs import at_most

HEX = "0123456789abcdef"
KEYS = st.builds(
    lambda expires, digest: f"{expires}-{digest}",
    st.integers(0, 2**63 - 1),
    st.text(HEX, min_size=32, max_size=32) | st.text(HEX, min_size=64, max_size=64),
)
WORDS = st.text(max_size=40)
TOKENS = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-", min_size=12, max_size=60)


@pytest.fixture
def out() -> Iterator[io.StringIO]:
    written = io.StringIO()
    yield written
    for id in list(log.levels._channels):
        log.levels.set_channel(id, None)
    log.configure("info", "json")


def lines(out: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


# ---- masking ----


@given(WORDS, KEYS, WORDS)
def test_a_stream_key_is_masked_anywhere_in_a_text(before: str, key: str, after: str):
    digest = key.partition("-")[2]
    assume(digest not in before + after)
    assert digest not in redact.mask(before + key + after)
    assert digest not in redact.mask(f"{before}?sign={key}&x=1{after}")
    assert digest not in redact.mask(f"rtmp://host/stream/id?sign={key}{after}")


def test_the_query_of_an_srt_address_is_masked():
    text = redact.mask("calls srt://h:9000?streamid=publish:cam7&latency=200 now")
    assert text == "calls srt://h:9000?*** now"


@given(WORDS, TOKENS, st.sampled_from(["Bearer ", "bearer  ", "Basic "]))
def test_a_token_in_a_header_is_masked(before: str, token: str, scheme: str):
    assume(token not in before)
    assert token not in redact.mask(f"Authorization: {scheme}{token}")
    assert token not in redact.mask(f"got {scheme}{token}")
    assert token not in redact.mask(f"{before}\nCookie: session={token}; other={token}")


@given(
    st.sampled_from(["rtmp", "rtmps", "RTMP", "rtmpt"]),
    st.sampled_from(["live.example.com", "192.0.2.1:1935", "[2001:db8::1]:443"]),
    st.sampled_from(["app", "live2", "x"]),
    TOKENS,
    st.sampled_from(["", "?", "?a=b", "/inner"]),
)
def test_the_key_of_a_relay_is_masked(scheme: str, host: str, app: str, key: str, more: str):
    masked = redact.mask(f"cannot reach {scheme}://{host}/{app}/{key}{more} now")
    assert key not in masked
    assert masked.startswith(f"cannot reach {scheme}://{host}/{app}/***") and masked.endswith(" now")


@given(TOKENS, st.sampled_from(["sign", "token", "X-Amz-Signature", "Signature", "password", "key", "Policy"]))
def test_the_value_of_a_secret_parameter_is_masked(secret: str, name: str):
    for text in (f"https://a.example/x?a=1&{name}={secret}&b=2", f'{{"{name}": "{secret}"}}', f"{name}='{secret}'"):
        assert secret not in redact.mask(text)
    assert "b=2" in redact.mask(f"https://a.example/x?a=1&{name}={secret}&b=2")


@given(TOKENS)
def test_a_value_under_a_secret_name_is_masked_at_any_depth(secret: str):
    shown = redact.masked("x", {"a": [{"Authorization": secret, "key": secret, "deep": {"streamKey": secret}}]})
    assert secret not in json.dumps(shown)


HEAD, TAIL = "Hq7Zx9", "Kw3Vb8"
INSIDE = st.text(max_size=20)
LEGAL = st.text("abcXYZ019-._~!$'()*+,;:@/?%", max_size=20)  # of a query, as it is
LINE = st.text(st.characters(blacklist_characters="\r\n", blacklist_categories=("Cs",)), max_size=20)
SECRET_NAMES = st.sampled_from(redact.NAMES).flatmap(lambda name: st.sampled_from([name, name.upper(), name.title()]))


def nothing_of_it(shown: object) -> None:
    text = shown if isinstance(shown, str) else json.dumps(shown, default=str)
    assert HEAD not in text and TAIL not in text, text


@given(SECRET_NAMES, INSIDE)
def test_secrets_in_json_forms_queries_and_structures_are_masked(name: str, inside: str):
    secret = f"{HEAD}{inside}{TAIL}"
    member = json.dumps({"a": 1, name: secret, "b": "2"})
    form = urlencode({"a": "1", name: secret, "b": "2"}, errors="replace")
    for text in (
        member,
        json.dumps({name: secret}, indent=2),
        json.dumps({name: [secret, secret]}),
        json.dumps({name: {"x": secret}}),
        json.dumps({"inner": member}),
        json.dumps({"inner": json.dumps({"inner": member})}),
        repr({name: secret}),
        f"{name} = {json.dumps(secret)}",
        form,
        f"GET /x?{form} HTTP/1.1",
        quote(form, safe=""),
    ):
        nothing_of_it(redact.mask(text))
        nothing_of_it(redact.masked("event", {"text": [text]}))
    for value in (
        {name: secret},
        {name: [secret], "b": {name: (secret,)}},
        {name: secret.encode("utf-8", "replace")},
        {name.encode(): secret},
        [(name, secret)],
        {"headers": [[name, secret], (name.encode(), secret.encode("utf-8", "replace"))]},
        {name: {"deep": [secret]}},
    ):
        nothing_of_it(redact.masked("x", value))
    nothing_of_it(redact.masked(name, secret))


@given(SECRET_NAMES, LEGAL)
def test_secrets_in_unescaped_queries_are_masked(name: str, inside: str):
    secret = f"{HEAD}{inside}{TAIL}"
    for text in (f"/x?a=1&{name}={secret}&b=2", f"{name}={secret}", f"at https://a.example/x?{name}={secret} now"):
        nothing_of_it(redact.mask(text))


@given(SECRET_NAMES, LINE)
def test_secrets_in_headers_are_masked(name: str, inside: str):
    secret = f"{HEAD}{inside}{TAIL}"
    for text in (
        f"{name}: {secret}",
        f"GET / HTTP/1.1\r\nHost: a\r\n{name}:{secret}\r\nX-Other: b",
        f"Cookie: a=1; {name}={secret}; b=2",
        f"sent Set-Cookie: {name}={secret}; Path=/",
    ):
        nothing_of_it(redact.mask(text))


def test_log_lines_mask_all_listed_secret_names(out: io.StringIO):
    log.configure("info", "json", out)
    logger = structlog.get_logger("x")
    for name in redact.NAMES:
        logger.info("asked", **{name: f"{HEAD}-{TAIL}"}, request=f"GET /x?{name}={HEAD}-{TAIL}")
    nothing_of_it(out.getvalue())
    assert len(lines(out)) == len(redact.NAMES)


def test_ordinary_text_is_not_masked():
    for text in (
        "publisher taken over",
        "70ef9b07-adbe-478d-b098-d7c8efd84a98 is not streaming live now",
        "http://example.com/70ef9b07/live.m3u8?_HLS_msn=3",
        "designation=x design=y",
        "listening on rtmp://0.0.0.0:1935",
        "refused: code=403 need auth",
        "the key is wrong: it has expired",
        "a wrong token: try again",
        "policy and code are words",
    ):
        assert redact.mask(text) == text
    assert redact.masked("keys", 3) == 3


@given(st.text(max_size=200) | st.recursive(st.text(), lambda s: st.lists(s) | st.dictionaries(st.text(), s)))
def test_masking_never_raises(value: object):
    json.dumps(redact.masked("x", value), default=str)


def test_long_and_deep_values_are_cut():
    assert len(redact.mask("word " * 100_000)) <= 8001
    deep: object = "x"
    for _ in range(1000):
        deep = [deep]
    assert "…" in json.dumps(redact.masked("x", deep), ensure_ascii=False)


def test_masking_of_hostile_lines_has_no_quadratic_cost():
    for text in (
        "1" * 8000,
        "1-" * 4000,
        "rtmp://" * 1100,
        "sign=" * 1600,
        "://" * 2600,
        "1-" + "a" * 7000,
        "rtmp" * 2000,
        "x-" * 4000,
        'token":{' * 1000,
        'token":[' * 1000,
        'token":"\\\\' * 800,
        'token\\\\":\\\\"' * 600,
        "token='" * 1100,
        "\ntoken:" * 1100,
        "token" + " " * 7900,
    ):
        redact.mask(text)


# ---- lines ----


def test_the_json_format_has_one_object_per_event(out: io.StringIO):
    log.configure("info", "json", out)
    structlog.get_logger("t").info("publisher came", stream="c1", peer="192.0.2.1", n=float("nan"))
    (line,) = lines(out)
    assert (line["level"], line["event"], line["stream"], line["n"]) == ("info", "publisher came", "c1", "nan")
    assert str(line["time"]).endswith("Z")


def test_the_console_format_has_one_line_for_any_input(out: io.StringIO):
    log.configure("info", "console", out)
    structlog.get_logger().warning("odd\nname", app='a\nb "c"\x1b[31m\u202e', empty="", n=3)
    text = out.getvalue()
    assert text.count("\n") == 1
    assert "\x1b" not in text and "\u202e" not in text
    assert "warning" in text and "n=3" in text and 'empty=""' in text


def test_the_auto_format_is_json_without_a_terminal(out: io.StringIO):
    log.configure("info", "auto", out)
    structlog.get_logger().info("x")
    assert lines(out)


def test_the_auto_format_is_coloured_on_a_terminal_unless_disabled(monkeypatch: pytest.MonkeyPatch, out: io.StringIO):
    monkeypatch.setattr(out, "isatty", lambda: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    log.configure("info", "auto", out)
    structlog.get_logger().info("x")
    monkeypatch.setenv("NO_COLOR", "1")
    log.configure("info", "auto", out)
    structlog.get_logger().info("y")
    first, second = out.getvalue().splitlines()
    assert "\x1b[32minfo" in first and "\x1b" not in second


def test_lines_below_the_level_are_dropped(out: io.StringIO):
    log.configure("warning", "json", out)
    logger = structlog.get_logger()
    logger.debug("a")
    logger.info("b")
    logger.warning("c")
    logger.error("d")
    assert [line["event"] for line in lines(out)] == ["c", "d"]


@pytest.mark.parametrize("event", ["push refused", "a stream cannot be looked up"])
def test_events_caused_by_unknown_clients_have_a_rate_limit(out: io.StringIO, event: str):
    log.configure("info", "json", out)
    for _ in range(500):
        structlog.get_logger().info(event, stream="c1")
        structlog.get_logger().info("publishing", stream="c1")
    events = Counter(line["event"] for line in lines(out))
    assert events["publishing"] == 500
    assert 20 <= events[event] <= 100


def test_all_rate_limited_event_names_exist_in_the_code():
    source = "".join(path.read_text() for path in Path("gateway").rglob("*.py") if path.name != "log.py")
    assert [name for name in log.FROM_STRANGERS if not re.search(rf'log\.\w+\(\s*"{name}"', source)] == []


def test_a_channel_may_have_its_own_log_level(out: io.StringIO):
    log.configure("info", "json", out)
    logger = structlog.get_logger()
    log.levels.set_channel("loud", "debug")
    log.levels.set_channel("quiet", "error")
    for stream in ("loud", "loud@720p", "quiet", "other"):
        logger.debug("d", stream=stream)
        logger.info("i", stream=stream)
    logger.error("e", channel="quiet")
    logger.debug("nobody's")
    seen = [(line["event"], line.get("stream") or line.get("channel")) for line in lines(out)]
    assert seen == [
        ("d", "loud"),
        ("i", "loud"),
        ("d", "loud@720p"),
        ("i", "loud@720p"),
        ("i", "other"),
        ("e", "quiet"),
    ]


def test_the_channel_of_a_log_context_determines_the_level(out: io.StringIO):
    log.configure("info", "json", out)
    log.levels.set_channel("quiet", "error")
    with structlog.contextvars.bound_contextvars(channel="quiet"):
        structlog.get_logger().info("not this")
    assert out.getvalue() == ""


def test_the_log_level_of_a_channel_can_be_removed(out: io.StringIO):
    log.configure("info", "json", out)
    log.levels.set_channel("c", "debug")
    assert log.levels.floor == logging.DEBUG
    log.levels.set_channel("c", None)
    assert log.levels.floor == logging.INFO


def test_dropped_log_calls_do_not_render_their_values(out: io.StringIO):
    log.configure("info", "json", out)

    class Costly:
        def __str__(self) -> str:
            raise AssertionError("was rendered")

    structlog.get_logger().debug("x", value=Costly())
    assert out.getvalue() == ""


def test_an_exception_is_logged_in_one_line_with_locations_and_cause(out: io.StringIO):
    log.configure("info", "json", out)

    def inner() -> None:
        raise KeyError("sign=1-" + "a" * 64)

    try:
        try:
            inner()
        except KeyError as error:
            raise ValueError("two\nlines") from error
    except ValueError:
        structlog.get_logger().exception("failed", stream="c1")
    (line,) = lines(out)
    told = str(line["exception"])
    assert told.startswith("ValueError: two lines (lib/test_log.py:")
    assert "from KeyError" in told and "inner < lib/test_log.py" in told
    assert "aaaa" not in told


def test_an_exception_group_is_logged_with_its_members():
    told = log.compact(ExceptionGroup("several", [ValueError("a"), OSError("b")]))
    assert "ValueError: a" in told and "OSError: b" in told


def test_messages_of_standard_logging_appear_in_the_same_log(out: io.StringIO):
    log.configure("info", "json", out)
    logging.getLogger("asyncio").error("task failed: %s", "token=abcdefghijkl")
    logging.getLogger("aiohttp").info("chatter")
    # Not through a logger: pytest's own handler raises for it.
    broken = logging.LogRecord("x", logging.ERROR, "file.py", 1, "broken %d", ("format",), None)
    for handler in logging.getLogger().handlers:
        if isinstance(handler, log.LibraryLogHandler):
            handler.handle(broken)
    first, second = out.getvalue().splitlines()
    assert json.loads(first)["event"] == "task failed: token=***"
    assert json.loads(first)["logger"] == "asyncio"
    assert "unprintable" in second


def test_configuring_the_log_twice_does_not_duplicate_lines(out: io.StringIO):
    log.configure("info", "json", out)
    log.configure("info", "json", out)
    logging.getLogger("x").warning("once")
    structlog.get_logger().info("once")
    assert len(out.getvalue().splitlines()) == 2


def test_a_log_that_cannot_be_written_raises_no_error():
    closed = io.StringIO()
    log.configure("info", "json", closed)
    closed.close()
    structlog.get_logger().info("x")
    log.configure("info", "json")


def test_a_full_disk_loses_only_lines_and_their_number_follows(tmp_path: Path, out: io.StringIO):
    """A limit of the size of files has the effect of a full disk: the begin of a line is written, then nothing."""
    file = tmp_path / "log"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with file.open("w") as full:
        log.configure("info", "json", full)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
        try:
            for number in range(5):
                structlog.get_logger().info("line", number=number)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        structlog.get_logger().info("line", number=5)
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [line.get("number") for line in lines] == [0, 1, 5, None]
    assert (lines[-1]["event"], lines[-1]["left_out"]) == ("lines of the log could not be written", 3)


def test_a_reader_that_hangs_delays_nobody_and_loses_only_lines(out: io.StringIO):
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writing, b"\n" * 4096)
    os.set_blocking(writing, True)
    with os.fdopen(reading) as reader, os.fdopen(writing, "w") as pipe:
        log.configure("info", "json", pipe)
        writer = threading.Thread(target=lambda: [structlog.get_logger().info("lost") for _ in range(3)], daemon=True)
        writer.start()
        writer.join(at_most(5))
        waits = writer.is_alive()
        os.read(reading, 1 << 20)
        writer.join(at_most(5))
        assert not waits
        structlog.get_logger().info("read")
        assert json.loads(reader.readline())["event"] == "read"
        last = json.loads(reader.readline())
        assert (last["event"], last["left_out"]) == ("lines of the log could not be written", 3)
        log.configure("info", "json")


def test_an_unknown_level_is_refused():
    with pytest.raises(KeyError):
        log.configure("loud", "json")
