"""Asks an authority for a certificate (RFC 8555). Everything here blocks, so it runs in a thread."""

import asyncio
import datetime
import hashlib
import io
import ssl
from collections.abc import Iterable, Sequence
from typing import Any, Final, cast
from urllib.parse import urlsplit

import requests
from acme import challenges, client, errors, messages
from acme.crypto_util import make_csr
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from josepy.b64 import b64encode
from josepy.errors import Error as JoseError
from josepy.jwa import ES256
from josepy.jwk import JWK, JWKEC

from gateway.adapters.acme.acme_files import AcmeFiles
from gateway.adapters.acme.renewal import AcmeFailure
from gateway.adapters.acme.self_signed import new_key, self_signed
from gateway.lib.egress import Egress, EgressRefused

HTTP, ALPN = "http-01", "tls-alpn-01"
# RFC 8737 §6.1: id-pe-acmeIdentifier
_ACME_IDENTIFIER: Final = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.31")
_TIMEOUT: Final = 20  # seconds of one request
_ORDER: Final = datetime.timedelta(seconds=120)  # for all challenges, and again for the certificate
_LIMITED_SECONDS: Final = 3600.0  # pause after "too many requests" without a time
_NONCES: Final = 3  # further attempts with another nonce
_MAX_ANSWER: Final = 1_000_000  # bytes
_REQUESTS: Final = 100  # for an account and the end of an order, and for each name: polls, for `_ORDER` at most
_MAX_DETAIL: Final = 300  # characters of an authority's text
_PORTS: Final = {HTTP: 80, ALPN: 443}


class Authority:
    """The authority at a directory.

    email: for its account; "": none. tls: for requests; None: only the usual authorities are trusted.
    """

    def __init__(
        self, directory: str, email: str, files: AcmeFiles, tls: ssl.SSLContext | None, user_agent: str
    ) -> None:
        self._directory, self._email, self._files, self._tls, self._agent = directory, email, files, tls, user_agent
        self._retry_after = 0.0

    def obtain(self, names: Sequence[str], kind: str) -> str:
        """Returns the key and the chain of a new certificate, as PEM. Raises AcmeFailure.

        kind: of the challenge to answer, if the authority offers it.
        """
        self._retry_after = 0.0
        try:
            return self._obtain(names, kind)
        except errors.ValidationError as error:
            raise AcmeFailure("; ".join(_refusals(error.failed_authzrs)), refused=True) from None
        except messages.Error as error:
            wait = self._retry_after or (_LIMITED_SECONDS if error.code == "rateLimited" else 0.0)
            raise AcmeFailure(_words(error), wait) from None
        except requests.exceptions.RequestException as error:
            text = f"the authority {self._directory} does not answer: {_cause(error)}"
            raise AcmeFailure(text, self._retry_after) from None
        except errors.TimeoutError:
            text = f"the authority {self._directory} has not finished in time"
            raise AcmeFailure(text, self._retry_after) from None
        # The library raises the last five for answers that are no ACME.
        except (errors.Error, JoseError, ArithmeticError, AttributeError, KeyError, TypeError, ValueError) as error:
            text = (
                f"the authority {self._directory} sent no usable answer: {_short(str(error) or type(error).__name__)}"
            )
            raise AcmeFailure(text, self._retry_after) from None

    def _obtain(self, names: Sequence[str], kind: str) -> str:
        acme, key = self._client(len(names))
        private_key = new_key()
        csr = make_csr(private_key.encode(), list(names))
        try:
            order = acme.new_order(csr)
        except messages.Error as error:
            # The authority has lost its accounts, or the folder comes from a copy.
            if error.code not in ("accountDoesNotExist", "unauthorized"):
                raise
            self._register(acme, key)
            order = acme.new_order(csr)
        # A name becomes the name of a file, and a certificate for it would prove the control of a stranger's name.
        if foreign := {one.body.identifier.value for one in order.authorizations} - set(names):
            raise errors.Error(f"it wants proofs for names that were not asked for: {', '.join(map(repr, foreign))}")
        try:
            self._answer(acme, order, kind, key)
            order = acme.poll_authorizations(order, _deadline())
        finally:
            self._files.clear_challenges()
        return private_key + acme.finalize_order(order, _deadline()).fullchain_pem

    def _client(self, names: int) -> tuple[client.ClientV2, JWK]:
        """Returns the client and the key of its account. names: their number in the order."""
        stored = self._files.account(self._directory)
        key = cast(JWK, JWK.from_json(stored["key"])) if stored else JWKEC(key=ec.generate_private_key(ec.SECP256R1()))
        net = _Network(key, alg=ES256, user_agent=self._agent, timeout=_TIMEOUT)
        net.origin, net.remaining = urlsplit(self._directory)[:2], _REQUESTS * (1 + names)
        net.session.mount("https://", _Adapter(self._tls))
        net.session.max_redirects, net.session.stream = 0, True  # `_note` reads the answers
        net.session.hooks["response"].append(self._note)
        acme = client.ClientV2(client.ClientV2.get_directory(self._directory, net), net)
        if stored:
            net.account = messages.RegistrationResource.from_json(stored["registration"])
        else:
            self._register(acme, key)
        return acme, key

    def _register(self, acme: client.ClientV2, key: JWK) -> None:
        """Creates the account, or finds that of this key. Stores it."""
        acme.net.account = None
        # By setting tls.acme the operator agrees to the terms of service; docs/operations.md says so.
        new = messages.NewRegistration.from_data(email=self._email or None, terms_of_service_agreed=True)
        try:
            account = acme.new_account(new)
        except errors.ConflictError as found:
            account = messages.RegistrationResource(uri=found.location, body=messages.Registration())
            acme.net.account = account
        self._files.save_account(
            {"directory": self._directory, "key": key.to_json(), "registration": account.to_json()}
        )

    def _answer(self, acme: client.ClientV2, order: messages.OrderResource, kind: str, key: JWK) -> None:
        """Publishes the answers to all challenges, then tells the authority."""
        pending = [one for one in order.authorizations if one.body.status == messages.STATUS_PENDING]
        chosen = [self._publish(one.body, kind, key) for one in pending]
        self._files.publish_challenges()
        for challenge in chosen:
            acme.answer_challenge(challenge, challenges.HTTP01Response())

    def _publish(self, authorization: messages.Authorization, kind: str, key: JWK) -> messages.ChallengeBody:
        """Returns the challenge whose answer is now public."""
        offered = {one.chall.to_json()["type"]: one for one in authorization.challenges}
        kind = kind if kind in offered else next((other for other in _PORTS if other in offered), "")
        name = authorization.identifier.value
        if not kind:
            raise errors.Error(f"it offers neither {HTTP} nor {ALPN} for {name}")
        token = offered[kind].chall.to_json()["token"]
        # RFC 8555 §8.1
        answer = f"{token}.{b64encode(key.thumbprint()).decode()}"
        if kind == HTTP:
            self._files.save_http_challenge(token, answer)
        else:
            self._files.save_tls_challenge(name, _challenge_certificate(name, answer))
        return offered[kind]

    def _note(self, response: requests.Response, *arguments: Any, **options: Any) -> None:
        """Reads an answer up to its bound, and remembers how long the authority asks to wait.

        The library's errors do not have that time.
        """
        body = response.raw.read(_MAX_ANSWER + 1, decode_content=True)
        if len(body) > _MAX_ANSWER:
            response.close()
            raise errors.Error(f"an answer has more than {_MAX_ANSWER} bytes")
        response.raw = io.BytesIO(body)
        if response.status_code in (429, 503):
            until = client.ClientV2.retry_after(response, 0)
            self._retry_after = max(0.0, (until - datetime.datetime.now(until.tzinfo)).total_seconds())


class _Network(client.ClientNetwork):
    """Sends a request again if the authority refuses its nonce. RFC 8555 §6.5: the client should retry.

    origin: scheme and host of the directory; other servers must be public. remaining: how many requests may be sent.
    """

    origin: tuple[str, str]
    remaining: int

    def _send_request(self, method: str, url: str, *arguments: Any, **options: Any) -> requests.Response:
        self.remaining -= 1
        if self.remaining < 0:
            raise errors.Error("it needs too many requests")
        if urlsplit(url)[:2] != self.origin:
            try:
                asyncio.run(Egress().check(url, ("https",)))
            except (EgressRefused, OSError) as error:
                raise errors.Error(f"it leads to another server: {error}") from None
        return super()._send_request(method, url, *arguments, **options)

    def post(self, *arguments: Any, **options: Any) -> requests.Response:
        for _ in range(_NONCES):
            try:
                return super().post(*arguments, **options)  # this tries twice
            except messages.Error as error:
                if error.code != "badNonce":
                    raise
        return super().post(*arguments, **options)


class _Adapter(requests.adapters.HTTPAdapter):
    """Trusts the authorities of `tls.ca` too."""

    def __init__(self, tls: ssl.SSLContext | None) -> None:
        self._tls = tls
        super().__init__()

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, **options, ssl_context=self._tls)


def _challenge_certificate(name: str, answer: str) -> str:
    """RFC 8737 §3: the extension "MUST contain the SHA-256 digest of the key authorization", as an OCTET STRING."""
    digest = b"\x04\x20" + hashlib.sha256(answer.encode()).digest()
    return self_signed([name], [(x509.UnrecognizedExtension(_ACME_IDENTIFIER, digest), True)])


def _deadline() -> datetime.datetime:
    return datetime.datetime.now() + _ORDER  # noqa: DTZ005 (the library compares it with the local time)


def _refusals(failed: Iterable[messages.AuthorizationResource]) -> Iterable[str]:
    """Yields what the authority says of each name."""
    for authorization in failed:
        name = authorization.body.identifier.value
        for challenge in authorization.body.challenges:
            if challenge.error is not None:
                yield _refusal(name, challenge.chall.to_json()["type"], challenge.error)


def _refusal(name: str, kind: str, error: messages.Error) -> str:
    port, detail = _PORTS.get(kind, 80), _short(error.detail or "")
    match error.code:
        case "dns":
            return f"the authority finds no address of {name} in the DNS: {detail}"
        case "connection" | "tls":
            return f"port {port} of {name} is not reachable from the authority: {detail}"
        case "unauthorized":
            return f"another server than this one answers at port {port} of {name}: {detail}"
        case "caa":
            return f"a CAA record in the DNS of {name} forbids this authority: {detail}"
        case code:
            return f"the authority refuses {name} ({code or error.typ}): {detail}"


def _words(error: messages.Error) -> str:
    """Returns what an error of the whole order means."""
    details = [error.detail or "", *(sub.detail or "" for sub in error.subproblems or ())]
    detail = _short("; ".join(filter(None, details)))
    match error.code:
        case "rateLimited":
            return f"the authority allows no more requests now: {detail}"
        case "rejectedIdentifier" | "unsupportedIdentifier" | "malformed":
            return f"the authority does not certify these names: {detail}"
        case "externalAccountRequired":
            return "the authority demands an account that was agreed with it before, which Millrace does not support"
        case "invalidContact" | "unsupportedContact":
            return f"the authority refuses tls.acme_email: {detail}"
        case code:
            return f"the authority refuses the order ({code or error.typ}): {detail}"


def _cause(error: BaseException) -> str:
    """Returns the innermost reason of a failed request. The texts of the library have addresses of objects."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return _short(str(error) or type(error).__name__)


def _short(text: str) -> str:
    """Returns the text of a peer on one line."""
    line = " ".join(text.split())
    return line if len(line) <= _MAX_DETAIL else f"{line[:_MAX_DETAIL]}…"
