"""Login data of clients: bearer tokens, key sets, passwords, names; refused as documented, or understood."""

from __future__ import annotations

import json

from gateway.api.tokens import ALGORITHMS, TokenRefused, key_id, parse_jwks
from gateway.lib.passwords import problem
from gateway.ports.users import name_problem

_KEY = {
    "kty": "EC",
    "crv": "P-256",
    "kid": "k",
    "use": "sig",
    "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
    "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
}
SEEDS = [
    b"eyJhbGciOiJSUzI1NiIsImtpZCI6ImsifQ.eyJzdWIiOiJzIn0.c2ln", b"eyJhbGciOiJub25lIn0.e30.", b"..", b"a.b.c",
    json.dumps({"keys": [_KEY, {"kty": "RSA", "n": "AQAB", "e": "AQAB", "kid": "r"}]}).encode(),
    b'{"keys": [null, {"kty": []}]}', "Éva 中".encode(),
]  # fmt: skip


def fuzz(data: bytes) -> None:
    """Oracle: TokenRefused or the name of a key; only strong keys; names and passwords that can be stored as text."""
    text = data.decode("utf-8", "replace")
    try:
        assert isinstance(key_id(text), str)
    except TokenRefused as refused:
        assert "\n" not in str(refused)
    if not name_problem(text):
        assert text.encode("utf-8") and "/" not in text and len(text) <= 64
    if not problem(text):
        assert text.encode("utf-8")
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return
    if isinstance(document, dict):
        assert all(key.algorithm_name in ALGORITHMS for key in parse_jwks(document).values())
