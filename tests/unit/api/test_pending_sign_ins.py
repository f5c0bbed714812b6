"""Pending sign-ins at a provider: each is bound to the browser's cookie and can be completed once."""

import pytest

from gateway.api.oidc import LIFETIME_SECONDS, PendingSignIns
from gateway.channels.stream_key import SigningSecrets

NOW = 1_700_000_000.0


def test_a_pending_sign_in_can_be_redeemed_once():
    pending = PendingSignIns(SigningSecrets("a-secret-for-tests"))
    begun, cookie = pending.begin(NOW)
    assert pending.redeem(cookie, begun.state, NOW + LIFETIME_SECONDS) == begun
    assert pending.redeem(cookie, begun.state, NOW + LIFETIME_SECONDS) is None
    assert len({begun.state, begun.nonce, begun.verifier}) == 3


def test_an_expired_sign_in_is_refused():
    pending = PendingSignIns(SigningSecrets("a-secret-for-tests"))
    begun, cookie = pending.begin(NOW)
    assert pending.redeem(cookie, begun.state, NOW + LIFETIME_SECONDS + 1) is None


def test_the_cookie_is_valid_on_other_nodes_and_with_the_previous_secret():
    secrets = SigningSecrets("a-secret-for-tests")
    begun, cookie = PendingSignIns(secrets).begin(NOW)
    assert (
        PendingSignIns(SigningSecrets("a-newer-secret-now", "a-secret-for-tests")).redeem(cookie, begun.state, NOW)
        == begun
    )
    assert PendingSignIns(SigningSecrets("a-newer-secret-now")).redeem(cookie, begun.state, NOW) is None


def _changed(text: str, part: int, value: str) -> str:
    parts = text.split(".")
    parts[part] = value
    return ".".join(parts)


@pytest.mark.parametrize(
    ("cookie", "state"),
    [
        (lambda c: c, lambda s: ""),
        (lambda c: c, lambda s: s[:-1]),
        (lambda c: c, lambda s: s + "é\ud800"),
        (lambda c: "", lambda s: ""),
        (lambda c: "..", lambda s: ""),
        (lambda c: "....", lambda s: ""),
        (lambda c: _changed(c, 0, ""), lambda s: ""),
        (lambda c: _changed(c, 0, "A" * 43), lambda s: "A" * 43),
        (lambda c: _changed(c, 1, ""), lambda s: s),
        (lambda c: _changed(c, 1, "A" * 43), lambda s: s),
        (lambda c: _changed(c, 2, "A" * 43), lambda s: s),
        (lambda c: _changed(c, 3, "9999999999"), lambda s: s),
        (lambda c: _changed(c, 4, "0" * 64), lambda s: s),
        (lambda c: c + "\n", lambda s: s),
        (lambda c: c.rpartition(".")[0], lambda s: s),
    ],
)
def test_forged_or_changed_cookies_are_refused(cookie, state):
    pending = PendingSignIns(SigningSecrets("a-secret-for-tests"))
    begun, genuine = pending.begin(NOW)
    assert pending.redeem(cookie(genuine), state(begun.state), NOW) is None
    assert pending.redeem(genuine, begun.state, NOW) == begun


def test_the_list_of_used_sign_ins_is_bounded(monkeypatch):
    monkeypatch.setattr("gateway.api.oidc._MAX_USED", 10)
    pending = PendingSignIns(SigningSecrets("a-secret-for-tests"))
    for _ in range(50):
        begun, cookie = pending.begin(NOW)
        assert pending.redeem(cookie, begun.state, NOW) is not None
        assert len(pending._used) <= 10
    begun, cookie = pending.begin(NOW + 2 * LIFETIME_SECONDS)
    assert pending.redeem(cookie, begun.state, NOW + 2 * LIFETIME_SECONDS) is not None
    assert len(pending._used) == 1, "those whose time is over are forgotten"
