"""When a certificate is requested, how long the gateway waits after failures, and what the operator reads."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from acme import messages

from gateway.adapters.acme.acme_files import AcmeFiles, Attempts
from gateway.adapters.acme.authority import Authority, _refusal
from gateway.adapters.acme.renewal import AcmeFailure, CertificateRenewal, Failure, Order
from gateway.adapters.acme.self_signed import self_signed
from gateway.lib.certificates import Certificate, outgoing_tls
from tests.support import authority as servers
from tests.support.time_outs import at_most

NAMES = ("live.example.com",)
HOUR = 3600.0


class Clock:
    """Sleeping moves it, so that nothing waits. Once `until` holds, `reached` is set, and a sleep does not end."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, now: float) -> None:
        self.now = now
        self.until: Callable[[], bool] = lambda: False
        self.reached = asyncio.Event()
        real = asyncio.sleep

        async def sleep(seconds: float) -> None:
            if self.until():
                self.reached.set()
                await asyncio.Event().wait()
            self.now += seconds
            await real(0)

        monkeypatch.setattr("gateway.adapters.acme.renewal.asyncio.sleep", sleep)

    def __call__(self) -> float:
        return self.now


class Asked:
    """An authority that answers with `answers` in order, and remembers when it was asked for which challenge."""

    def __init__(self, clock: Clock, *answers: AcmeFailure | str) -> None:
        self.clock, self.answers, self.times, self.kinds = clock, list(answers), list[float](), list[str]()

    def __call__(self, names: Sequence[str], kind: str) -> str:
        self.times.append(self.clock.now)
        self.kinds.append(kind)
        answer = self.answers.pop(0)
        if isinstance(answer, AcmeFailure):
            raise answer
        return answer


async def run(folder: Path, clock: Clock, asked: Asked, until: Callable[[], bool]) -> list[Failure]:
    files = AcmeFiles(folder)
    files.prepare()
    failures: list[Failure] = []

    async def renewed() -> None:
        pass

    renewal = CertificateRenewal(Order(NAMES, "https://ca.example/dir"), files, asked, renewed, failures.append, clock)
    clock.until, clock.reached = until, asyncio.Event()
    async with asyncio.timeout(at_most(20)), asyncio.TaskGroup() as group:
        task = group.create_task(renewal.run())
        await clock.reached.wait()
        task.cancel()
    return failures


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch, 1_900_000_000.0)


async def test_the_other_challenge_is_tried_soon_and_then_the_pauses_grow(tmp_path: Path, clock: Clock) -> None:
    refused = [AcmeFailure("closed", refused=True) for _ in range(7)]
    asked = Asked(clock, *refused)
    failures = await run(tmp_path, clock, asked, lambda: len(asked.times) == 7)
    assert asked.kinds[:3] == ["http-01", "tls-alpn-01", "http-01"]
    pauses = [b - a for a, b in zip(asked.times, asked.times[1:], strict=False)]
    assert 10 <= pauses[0] <= 12
    assert all(240 * 2**n <= pause <= 288 * 2**n for n, pause in enumerate(pauses[1:]))
    first = asked.times[0]
    assert sum(at < first + HOUR for at in asked.times) <= 5, "Let's Encrypt allows five failures an hour"
    assert failures[0].reason == "closed"


async def test_retry_after_of_the_authority_is_obeyed_also_after_a_restart(tmp_path: Path, clock: Clock) -> None:
    asked = Asked(clock, AcmeFailure("too many", 7 * HOUR))
    began = clock.now
    await run(tmp_path, clock, asked, lambda: bool(asked.times) and (tmp_path / "acme" / "attempts.json").exists())
    clock.now = began + 60
    again = Asked(clock, AcmeFailure("still too many", 1e9))
    await run(tmp_path, clock, again, lambda: bool(again.times))
    assert again.times[0] >= began + 7 * HOUR


async def test_restarts_do_not_ask_more_often_than_the_authority_allows(tmp_path: Path, clock: Clock) -> None:
    began, stored = clock.now, lambda: AcmeFiles(tmp_path).attempts("https://ca.example/dir").failures
    for count in range(1, 5):
        await run(tmp_path, clock, Asked(clock, AcmeFailure("closed")), lambda count=count: len(stored()) >= count)
        clock.now = began + 30
    fifth = Asked(clock, AcmeFailure("closed", 1e9))
    await run(tmp_path, clock, fifth, lambda: bool(fifth.times))
    assert fifth.times[0] >= began + HOUR


async def test_an_attempt_follows_soon_after_a_clock_that_was_ahead_is_set_back(tmp_path: Path, clock: Clock) -> None:
    right = clock.now
    clock.now += 365 * 24 * HOUR
    asked = Asked(clock, *[AcmeFailure("no TLS", 2 * HOUR) for _ in range(5)])

    def set_back() -> bool:
        if len(asked.times) == 4:
            clock.now = min(clock.now, right)
        return len(asked.times) == 5

    await run(tmp_path, clock, asked, set_back)
    assert asked.times[4] <= right + HOUR


async def test_failures_of_a_clock_that_was_ahead_do_not_block_after_a_restart(tmp_path: Path, clock: Clock) -> None:
    right, later = clock.now, clock.now + 365 * 24 * HOUR
    files = AcmeFiles(tmp_path)
    files.prepare()
    files.save_attempts(Attempts("https://ca.example/dir", failures=[later] * 4, not_before=later + HOUR))
    asked = Asked(clock, AcmeFailure("closed"))
    await run(tmp_path, clock, asked, lambda: bool(asked.times))
    assert asked.times == [right]


async def test_a_stored_certificate_is_renewed_at_two_thirds_of_its_life(tmp_path: Path, clock: Clock) -> None:
    files = AcmeFiles(tmp_path)
    files.prepare()
    files.save_certificate(self_signed(NAMES))
    files.save_attempts(Attempts("https://ca.example/dir", certified=True))
    stored = Certificate.read(files.certificate, None)
    life = stored.ends - stored.begins
    clock.now = stored.begins + 0.6 * life  # one that is renewed earlier is renewed at once
    asked = Asked(clock, AcmeFailure("later", 1e9))
    await run(tmp_path, clock, asked, lambda: bool(asked.times))
    assert life * 2 / 3 <= asked.times[0] - stored.begins <= life * 0.7


@pytest.mark.parametrize("certified", [Attempts("https://staging.example/dir", certified=True), None])
async def test_a_certificate_of_another_authority_or_for_other_names_is_replaced(
    tmp_path: Path, clock: Clock, certified: Attempts | None
) -> None:
    files = AcmeFiles(tmp_path)
    files.prepare()
    files.save_certificate(self_signed(NAMES if certified else ["old.example.com"]))
    files.save_attempts(certified or Attempts("https://ca.example/dir", certified=True))
    began = clock.now
    asked = Asked(clock, AcmeFailure("later", 1e9))
    await run(tmp_path, clock, asked, lambda: bool(asked.times))
    assert asked.times == [began]


# ---- what an authority answers ----


class Double(BaseHTTPRequestHandler):
    """An authority that refuses new accounts with `server.refusal`: status, headers, problem."""

    protocol_version = "HTTP/1.1"  # the requests of a client share a connection, and its costly handshake
    disable_nagle_algorithm = True  # the head and the body of an answer are two packets

    def do_GET(self) -> None:
        base = self.server.base  # type: ignore[attr-defined]
        paths = ("newNonce", "newAccount", "newOrder", "revokeCert", "keyChange")
        status, headers, more = self.server.directory  # type: ignore[attr-defined]
        self._answer(status, headers, {name: f"{base}/{name}" for name in paths} | more)

    def do_HEAD(self) -> None:
        self._answer(200, {}, {})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        if self.path in self.server.answers:  # type: ignore[attr-defined]
            self.server.asked.append(self.path)  # type: ignore[attr-defined]
            self._answer(201, {"Location": self.path}, self.server.answers[self.path])  # type: ignore[attr-defined]
        else:
            self._answer(*self.server.refusal)  # type: ignore[attr-defined]

    def _answer(self, status: int, headers: dict[str, str], body: object) -> None:
        data = json.dumps(body).encode()
        kind = "application/problem+json" if status >= 400 else "application/json"
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Replay-Nonce": "bm9uY2U", **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def double(tmp_path: Path) -> Iterator[tuple[ThreadingHTTPServer, Authority]]:
    authority = servers.Authority(tmp_path)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Double)
    server.socket = authority.server("127.0.0.1").wrap_socket(server.socket, server_side=True)
    server.base = f"https://127.0.0.1:{server.server_address[1]}"  # type: ignore[attr-defined]
    server.directory, server.answers, server.asked = (200, {}, {}), {}, []  # type: ignore[attr-defined]
    server.refusal = (400, {}, {"type": "urn:ietf:params:acme:error:malformed", "detail": "no"})  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    files = AcmeFiles(tmp_path)
    files.prepare()
    try:
        yield server, Authority(f"{server.base}/dir", "", files, outgoing_tls(authority.file), "test")  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "headers", "kind", "words", "wait"),
    [
        (429, {"Retry-After": "7200"}, "rateLimited", "the authority allows no more requests now: slow down", 7200),
        (429, {}, "rateLimited", "the authority allows no more requests now: slow down", 3600),
        (503, {"Retry-After": "120"}, "serverInternal", "the authority refuses the order (serverInternal): slow", 120),
        (403, {}, "externalAccountRequired", "the authority demands an account that was agreed with it before", 0),
        (400, {}, "invalidContact", "the authority refuses tls.acme_email: slow down", 0),
    ],
)
def test_a_refusal_is_told_in_words_with_the_time_to_wait(
    double: tuple[ThreadingHTTPServer, Authority],
    status: int,
    headers: dict[str, str],
    kind: str,
    words: str,
    wait: int,
) -> None:
    server, authority = double
    problem = {"type": f"urn:ietf:params:acme:error:{kind}", "detail": "slow\n down"}
    server.refusal = (status, headers, problem)  # type: ignore[attr-defined]
    with pytest.raises(AcmeFailure) as caught:
        authority.obtain(NAMES, "http-01")
    assert str(caught.value).startswith(words)
    assert wait - 5 <= caught.value.retry_after <= wait


def test_an_answer_that_is_no_acme_is_a_failure_in_words(double: tuple[ThreadingHTTPServer, Authority]) -> None:
    server, authority = double
    server.refusal = (200, {}, ["surprise"])  # type: ignore[attr-defined]
    with pytest.raises(AcmeFailure, match="sent no usable answer"):
        authority.obtain(NAMES, "http-01")


def order_of(server: ThreadingHTTPServer, *, identifier: str = NAMES[0], authorizations: int = 1) -> None:
    """Lets the double accept an order, and ask for proofs of a name."""
    base = server.base  # type: ignore[attr-defined]
    challenge = {"type": "tls-alpn-01", "url": f"{base}/challenge", "token": "t" * 43, "status": "pending"}
    server.answers = {  # type: ignore[attr-defined]
        "/newAccount": {"status": "valid"},
        "/newOrder": {
            "status": "pending",
            "identifiers": [{"type": "dns", "value": NAMES[0]}],
            "authorizations": [f"{base}/authorization"] * authorizations,
            "finalize": f"{base}/finalize",
        },
        "/authorization": {
            "status": "pending",
            "identifier": {"type": "dns", "value": identifier},
            "challenges": [challenge],
        },
    }


def refusal_of(authority: Authority, *, words: str) -> None:
    with pytest.raises(AcmeFailure, match=r"sent no usable answer|does not answer") as caught:
        authority.obtain(NAMES, "tls-alpn-01")
    assert words in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) < 500


@pytest.mark.parametrize("name", ["../../../escaped", "/tmp/escaped-millrace", "another.example.com", "", "a\n" * 999])
def test_a_proof_for_another_name_than_asked_is_refused_and_writes_no_file(
    double: tuple[ThreadingHTTPServer, Authority], tmp_path: Path, name: str
) -> None:
    server, authority = double
    order_of(server, identifier=name)
    before = {path for path in tmp_path.rglob("*") if path.name != "account.json"}
    refusal_of(authority, words="it wants proofs for names that were not asked for")
    assert {path for path in tmp_path.rglob("*") if path.name != "account.json"} == before


def test_an_order_with_endless_authorizations_fails(double: tuple[ThreadingHTTPServer, Authority]) -> None:
    server, authority = double
    order_of(server, authorizations=10_000)
    refusal_of(authority, words="it needs too many requests")
    assert len(server.asked) <= 200  # type: ignore[attr-defined]


def test_a_redirect_of_the_authority_is_not_followed(double: tuple[ThreadingHTTPServer, Authority]) -> None:
    server, authority = double
    base = server.base  # type: ignore[attr-defined]
    server.directory = (302, {"Location": f"{base}/elsewhere"}, {})  # type: ignore[attr-defined]
    refusal_of(authority, words="redirects")


@pytest.mark.parametrize("elsewhere", ["https://127.0.0.1:1/x", "https://169.254.169.254/x", "http://127.0.0.1:1/x"])
def test_an_authority_leads_to_no_internal_server(
    double: tuple[ThreadingHTTPServer, Authority], elsewhere: str
) -> None:
    server, authority = double
    server.directory = (200, {}, {"newNonce": elsewhere})  # type: ignore[attr-defined]
    refusal_of(authority, words="it leads to another server")


def test_an_answer_has_a_bound(double: tuple[ThreadingHTTPServer, Authority]) -> None:
    server, authority = double
    server.directory = (200, {}, {"padding": "x" * 1_000_000})  # type: ignore[attr-defined]
    refusal_of(authority, words="an answer has more than 1000000 bytes")


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        ("connection", "http-01", "port 80 of live.example.com is not reachable from the authority: timeout"),
        ("tls", "tls-alpn-01", "port 443 of live.example.com is not reachable from the authority: timeout"),
        ("dns", "http-01", "the authority finds no address of live.example.com in the DNS: timeout"),
        ("unauthorized", "http-01", "another server than this one answers at port 80 of live.example.com: timeout"),
        ("caa", "http-01", "a CAA record in the DNS of live.example.com forbids this authority: timeout"),
    ],
)
def test_a_failed_challenge_says_what_to_look_at(code: str, kind: str, words: str) -> None:
    error = messages.Error.with_code(code, detail="timeout")
    assert _refusal("live.example.com", kind, error) == words


@pytest.mark.parametrize("token", ["", ".", "..", "../account.json", "a/b", "a" * 129, "é", "a\0b", "live.pem"])
def test_odd_tokens_reach_no_file(tmp_path: Path, token: str) -> None:
    files = AcmeFiles(tmp_path)
    files.prepare()
    (files.folder / "challenges" / "live.pem").write_text("secret")
    assert files.http_challenge(token) is None
    with pytest.raises(ValueError, match="base64url"):
        files.save_http_challenge(token, "x")
