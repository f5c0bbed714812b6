"""Tokens of an OpenID Connect provider: which are accepted, and which users may sign in."""

import base64
import contextlib
import hashlib
import hmac
import json
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st

from gateway.api.tokens import TokenRefused, TokenRules, key_id, parse_jwks, verified
from gateway.ports.users import Rights, UserRole
from tests.support.oidc import ec_key, public, rsa_key, settings

ISSUER, CLIENT = "https://id.example.com/pool", "our-client"


def rules_of(**options: Any) -> TokenRules:
    return TokenRules(settings(ISSUER, client_id=CLIENT, **options))


RULES = rules_of()
KEY = rsa_key()
KEYS = parse_jwks({"keys": [public("k1", KEY)]})
NOW = int(time.time())
GOOD = {"iss": ISSUER, "aud": CLIENT, "sub": "s1", "exp": NOW + 86_400, "iat": NOW,
        "email": "eva@example.com", "email_verified": True}  # fmt: skip


def signed(key: Any = KEY, algorithm: str = "RS256", kid: str = "k1", **claims: Any) -> str:
    said = {name: value for name, value in {**GOOD, **claims}.items() if value is not None}
    return jwt.encode(said, key, algorithm=algorithm, headers={"kid": kid})


def judged(token: str, rules: TokenRules = RULES) -> Any:
    return verified(token, KEYS[key_id(token)], rules)


def test_a_valid_token_is_accepted():
    claims = judged(signed())
    person = RULES.user(claims)
    assert (person.kind, person.name, person.id) == ("oidc", "eva@example.com", "s1")


def test_a_token_signed_with_an_elliptic_curve_key_is_accepted():
    key = ec_key()
    keys = parse_jwks({"keys": [public("e", key)]})
    token = signed(key, "ES256", "e")
    assert verified(token, keys[key_id(token)], RULES)["sub"] == "s1"


OTHER_ALGORITHMS = {
    "ES384": lambda: ec.generate_private_key(ec.SECP384R1()),  # Logto
    "ES512": lambda: ec.generate_private_key(ec.SECP521R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate,  # Rauthy
    **dict.fromkeys(("RS384", "RS512", "PS256", "PS384", "PS512"), rsa_key),
}


@pytest.mark.parametrize("algorithm", OTHER_ALGORITHMS)
def test_the_algorithms_that_providers_choose_are_accepted(algorithm: str):
    key = OTHER_ALGORITHMS[algorithm]()
    keys = parse_jwks({"keys": [public("k", key, alg=algorithm), public("k1", KEY)]})
    token = signed(key, algorithm, "k")
    assert verified(token, keys[key_id(token)], RULES)["sub"] == "s1"
    with pytest.raises(TokenRefused):
        verified(token, keys["k1"], RULES)
    with pytest.raises(TokenRefused):
        verified(signed(), keys["k"], RULES)


@pytest.mark.parametrize(("algorithm", "said"), [("HS256", "HS256"), ("HS512", "HS512"), ("x\ny", None), (5, None)])
def test_a_refusal_names_the_algorithm_of_a_client_without_a_signing_key(algorithm: Any, said: str | None):
    """Authentik and Auth0 sign with the client's secret where the client has no signing key."""
    with pytest.raises(TokenRefused) as refused:
        key_id(unsigned(alg=algorithm, kid="k1"))
    expected = f"the token is signed with {said}" if said else "the token is not signed by a key of the provider"
    assert str(refused.value).startswith(expected)


def test_a_token_of_an_authentik_without_a_signing_key_is_refused_with_the_reason():
    with pytest.raises(TokenRefused, match=r"HS256.*choose a signing key"):
        key_id(jwt.encode(GOOD, "s" * 64, algorithm="HS256"))  # its header has no key id


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://id.example.com/another"}, {"iss": ISSUER + "/"}, {"iss": None}, {"iss": [ISSUER]},
        {"aud": "somebody-else"}, {"aud": []}, {"aud": ["x", "y"]}, {"aud": None},
        {"aud": 5, "client_id": CLIENT}, {"aud": [{}, None]},
        {"aud": None, "client_id": "somebody-else"},
        {"exp": NOW - 120}, {"exp": None}, {"exp": "tomorrow"}, {"nbf": NOW + 3600}, {"iat": NOW + 3600},
        {"sub": None}, {"sub": 5}, {"events": {"http://schemas.openid.net/event/backchannel-logout": {}}},
    ],
)  # fmt: skip
def test_a_token_with_wrong_claims_is_refused(claims: dict[str, Any]):
    with pytest.raises((TokenRefused, TypeError)) as refused:
        judged(signed(**claims))
    assert refused.type is TokenRefused or "iss" in claims  # PyJWT itself does not encode that one


def test_a_cognito_access_token_with_client_id_is_accepted():
    assert judged(signed(aud=None, client_id=CLIENT, token_use="access"))


def test_access_tokens_may_have_a_configured_audience():
    rules = rules_of(audience="api://millrace")
    assert judged(signed(aud="api://millrace"), rules)
    assert judged(signed(aud=["another", "api://millrace"]), rules)
    with pytest.raises(TokenRefused):
        judged(signed(aud="api://millrace"))


def test_a_token_signed_by_another_key_with_the_same_id_is_refused():
    with pytest.raises(TokenRefused):
        judged(signed(rsa_key()))


def test_a_token_with_changed_claims_is_refused():
    head, body, signature = signed().split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=="))
    forged = base64.urlsafe_b64encode(json.dumps({**claims, "sub": "boss"}).encode()).rstrip(b"=").decode()
    with pytest.raises(TokenRefused):
        judged(f"{head}.{forged}.{signature}")


def unsigned(**header: Any) -> str:
    parts = [json.dumps(header).encode(), json.dumps(GOOD).encode()]
    return ".".join(base64.urlsafe_b64encode(p).rstrip(b"=").decode() for p in parts) + "."


@pytest.mark.parametrize(
    "token",
    [
        "", "a.b.c", "..", "x" * 9000, unsigned(alg="none", kid="k1"), unsigned(alg="HS256", kid="k1"),
        unsigned(alg="RS256"), unsigned(alg="RS256", kid=5), unsigned(alg="RS512", kid="k1"),
        unsigned(alg={}, kid="k1"),
        unsigned(alg=["RS256"], kid="k1"), unsigned(alg="RS256", kid="k1", crit=["b64"]), "é.é.é",
    ],
)  # fmt: skip
def test_unsigned_and_malformed_tokens_are_refused(token: str):
    with pytest.raises(TokenRefused):
        judged(token)


def test_a_user_may_have_as_many_groups_as_entra_puts_into_a_token():
    groups = [f"{n:08x}-0000-4000-8000-000000000000" for n in range(200)]
    rules = rules_of(claim="groups", allow=[groups[-1]])
    assert rules.user(judged(signed(groups=groups), rules)).id == "s1"
    with pytest.raises(TokenRefused, match="too long"):
        judged(signed(groups=groups * 10), rules)


def test_a_token_with_an_hmac_of_the_public_key_is_refused():
    """The classic algorithm confusion attack: HMAC with the public key's text as its secret."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    pem = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    text = unsigned(alg="HS256", kid="k1", typ="JWT").rstrip(".")
    mac = base64.urlsafe_b64encode(hmac.new(pem, text.encode(), hashlib.sha256).digest()).rstrip(b"=").decode()
    with pytest.raises(TokenRefused):
        judged(f"{text}.{mac}")


@given(st.text(max_size=300))
def test_any_text_has_a_key_id_or_is_refused(text: str):
    with contextlib.suppress(TokenRefused):
        assert isinstance(key_id(text), str)


def test_weak_and_unsupported_keys_are_ignored():
    weak = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    document = {
        "keys": [
            public("good", KEY), public("weak", weak), public("curve", ec.generate_private_key(ec.SECP256K1())),
            public("encryption", KEY) | {"use": "enc"}, public("other", KEY) | {"alg": "RSA-OAEP"},
            public("another", ec_key()) | {"alg": "ES384"}, public("list", KEY) | {"alg": ["RS256"]},
            public("ed", ed25519.Ed25519PrivateKey.generate()) | {"crv": "X25519"},
            public("rsa", KEY) | {"alg": "EdDSA"},
            {"kty": "oct", "k": "c2VjcmV0", "kid": "shared"}, {"kty": "RSA", "kid": "empty"}, {"kty": "RSA"}, "text",
            None, 5, {k: v for k, v in public("x", KEY).items() if k != "kid"},
            {"kty": "RSA", "n": "!", "e": "AQAB", "kid": "bad"},
            public("said", KEY) | {"alg": "RS256"},
        ]
    }  # fmt: skip
    assert set(parse_jwks(document)) == {"good", "said"}


@pytest.mark.parametrize(
    ("keys", "ids"),
    [
        (["a"], {"a", ""}), ([""], {""}), (["a", "b"], {"a", "b"}), (["a", ""], {"a"}), (["", ""], set()),
        (["", "weak"], {""}), ([5], set()), ([None], set()),
    ],
)  # fmt: skip
def test_the_only_key_has_the_empty_id_too(keys: list[Any], ids: set[str]):
    listed = [public(k, KEY) | ({"use": "enc"} if k == "weak" else {}) for k in keys]
    document = {"keys": [{name: v for name, v in key.items() if v != ""} for key in listed]}
    assert set(parse_jwks(document)) == ids


@pytest.mark.parametrize("document", [{}, {"keys": None}, {"keys": {}}, {"keys": "abc"}, {"keys": []}])
def test_a_jwks_document_without_keys_gives_an_empty_set(document: dict[str, Any]):
    assert parse_jwks(document) == {}


# ---- who may in ----


def person(rules: TokenRules, **claims: Any) -> Any:
    return rules.user({**GOOD, **claims})


@pytest.mark.parametrize(
    ("claim", "allow", "claims"),
    [
        ("email", ["Eva@Example.com"], {}),
        ("email", ["eva@example.com"], {"email_verified": "true"}),
        ("cognito:groups", ["operators"], {"cognito:groups": ["viewers", "operators"]}),
        ("role", ["admin"], {"role": "admin"}),
        ("email", ["*"], {"email": None}),
    ],
)
def test_users_on_the_allow_list_are_accepted(claim: str, allow: list[str], claims: dict[str, Any]):
    assert person(rules_of(claim=claim, allow=allow), **claims).id == "s1"


@pytest.mark.parametrize(
    ("claim", "allow", "claims"),
    [
        ("email", [], {}),
        ("email", ["adam@example.com"], {}),
        ("email", ["eva@example.com"], {"email_verified": False}),
        ("email", ["eva@example.com"], {"email_verified": None}),
        *(
            ("email", ["eva@example.com"], {"email_verified": said})
            for said in ("yes", "True", "false", "", 1, 1.0, [True], {})
        ),
        ("email", ["example.com"], {}),
        ("cognito:groups", ["operators"], {}),
        ("cognito:groups", ["operators"], {"cognito:groups": "operators of nothing"}),
        ("cognito:groups", ["operators"], {"cognito:groups": ["Operators"]}),
        ("cognito:groups", ["operators"], {"cognito:groups": {"operators": True}}),
        ("cognito:groups", ["operators"], {"cognito:groups": [["operators"], None, 5]}),
        ("email", ["*"], {"sub": ""}),
        ("email", ["*"], {"sub": "x" * 300}),
    ],
)
def test_users_not_on_the_allow_list_are_refused(claim: str, allow: list[str], claims: dict[str, Any]):
    with pytest.raises(TokenRefused):
        person(rules_of(claim=claim, allow=allow), **claims)


@pytest.mark.parametrize(
    ("lists", "claims", "reason"),
    [
        ({"allow": ["eva@example.com"]}, {"email_verified": None}, "does not confirm"),  # Entra
        ({"allow": [], "broadcasters": ["Eva@example.com"]}, {"email_verified": False}, "does not confirm"),  # Keycloak
        ({"allow": [], "observers": ["eva@example.com"]}, {"email_verified": "no"}, "does not confirm"),
        ({"allow": ["adam@example.com"]}, {"email_verified": False}, "does not confirm"),
        ({"allow": ["adam@example.com"]}, {}, "no value of email is allowed"),
        ({"allow": ["eva@example.com"]}, {"email": None}, "no value of email is allowed"),
        ({"allow": ["x"], "claim": "groups"}, {"email_verified": False}, "no value of groups is allowed"),
    ],
)
def test_the_refusal_names_an_address_that_the_provider_does_not_confirm(
    lists: dict[str, Any], claims: dict[str, Any], reason: str
):
    with pytest.raises(TokenRefused, match=reason):
        person(rules_of(**lists), **claims)


def test_a_display_name_is_truncated_and_printable():
    rules = rules_of(allow=["*"])
    assert person(rules, preferred_username="<b>\u202eeva\n").name == "<b>eva"
    assert len(person(rules, preferred_username="x" * 500).name) == 64
    assert person(rules, preferred_username="\u202e").name == "?"


# ---- the token of a sign-in ----


@pytest.mark.parametrize(
    ("claims", "right"),
    [
        ({"nonce": "n"}, True),
        ({"nonce": "n", "aud": [CLIENT]}, True),
        ({"nonce": "n", "aud": [CLIENT, "another"], "azp": CLIENT}, True),
        ({"nonce": "n", "aud": [CLIENT, "another"], "azp": "another"}, False),
        ({"nonce": "n", "aud": [CLIENT, "another"]}, False),
        ({"nonce": "m"}, False),
        ({}, False),
        ({"nonce": "n", "aud": None, "client_id": CLIENT}, False),
    ],
)
def test_an_id_token_must_match_nonce_and_audience_of_the_sign_in(claims: dict[str, Any], right: bool):
    assert RULES.is_sign_in({**GOOD, **claims}, "n") is right


@pytest.mark.parametrize("said", [{}, {"nonce": ""}, {"nonce": None}, {"nonce": []}, {"nonce": 0}])
def test_an_empty_nonce_matches_no_sign_in(said: dict[str, Any]):
    assert RULES.is_sign_in({**GOOD, **said}, "") is False


def test_a_user_of_an_observers_value_reads_all_channels_or_the_listed_ones():
    rules = rules_of(claim="groups", allow=["admins"], broadcasters=["stage"], observers=["audit", "stage"], sign_up=5)
    reader = {"email_verified": None, "groups": ["audit"]}
    assert rules.user({**GOOD, **reader}).rights == Rights(UserRole.OBSERVER)
    assert rules.user({**GOOD, **reader, "channels": "a b"}).rights == Rights(UserRole.OBSERVER, ("a", "b"))
    assert rules.user({**GOOD, "groups": ["audit", "stage"]}).rights.role is UserRole.BROADCASTER
    assert rules.user({**GOOD, "groups": ["audit", "admins"]}).rights.role is UserRole.ADMINISTRATOR


@pytest.mark.parametrize("channels", ["", [], {"a": 1}, 7, [7]])
def test_a_claim_without_channels_is_not_the_right_to_all_of_them(channels: Any):
    rules = rules_of(claim="groups", allow=[], observers=["audit"])
    with pytest.raises(TokenRefused, match="the claim channels lists no channel"):
        rules.user({**GOOD, "groups": "audit", "channels": channels})
