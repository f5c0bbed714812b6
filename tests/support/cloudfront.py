"""A CloudFront signer for tests, after botocore's CloudFrontSigner and Amazon's guide, with RSA and ECDSA."""

from __future__ import annotations

import base64
import functools
import json
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

_HASHES = {"SHA1": hashes.SHA1(), "SHA256": hashes.SHA256()}


class Signer:
    """Signs URLs. key: "rsa" or "ec". algorithm: the value of Hash-Algorithm; None omits it (SHA1)."""

    def __init__(self, key_id: str = "K1", key: str = "rsa", algorithm: str | None = None) -> None:
        self.key_id = key_id
        self.algorithm = algorithm
        self._kind = key

    @functools.cached_property
    def _key(self) -> rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey:
        # Made when it is first needed: modules of tests have signers that most processes of a run only import.
        if self._kind == "rsa":
            return rsa.generate_private_key(65_537, 2048)
        return ec.generate_private_key(ec.SECP256R1())

    @property
    def public(self) -> rsa.RSAPublicKey | ec.EllipticCurvePublicKey:
        return self._key.public_key()

    def write_public(self, path: Path) -> Path:
        path.write_bytes(self.public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
        return path

    @property
    def private_pem(self) -> str:
        return self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()

    def canned(self, url: str, expires: int) -> str:
        policy = (
            f'{{"Statement":[{{"Resource":"{url}","Condition":{{"DateLessThan":{{"AWS:EpochTime":{expires}}}}}}}]}}'
        )
        return self._appended(url, f"Expires={expires}&{self._parts(policy.encode())}")

    def custom(self, url: str, resource: str, expires: int, **conditions: Any) -> str:
        return self._appended(url, self.query(resource, expires, **conditions))

    def query(self, resource: str, expires: int, **conditions: Any) -> str:
        return self.query_of(self.policy(resource, expires, **conditions))

    def query_of(self, policy: bytes) -> str:
        return f"Policy={b64(policy)}&{self._parts(policy)}"

    def cookie(self, resource: str, expires: int, **conditions: Any) -> str:
        pairs = self.query(resource, expires, **conditions).split("&")
        return "; ".join(f"CloudFront-{pair}" for pair in pairs)

    def canned_cookie(self, url: str, expires: int) -> str:
        pairs = self.canned(url, expires).rpartition("?")[2].split("&")[-3:]
        return "; ".join(f"CloudFront-{pair}" for pair in pairs)

    @staticmethod
    def policy(resource: str, expires: int, **conditions: Any) -> bytes:
        condition = {"DateLessThan": {"AWS:EpochTime": expires}, **conditions}
        statement = {"Resource": resource, "Condition": condition}
        return json.dumps({"Statement": [statement]}, separators=(",", ":")).encode()

    def _parts(self, policy: bytes) -> str:
        algorithm = _HASHES[self.algorithm or "SHA1"]
        if isinstance(self._key, rsa.RSAPrivateKey):
            signature = self._key.sign(policy, padding.PKCS1v15(), algorithm)
        else:
            signature = self._key.sign(policy, ec.ECDSA(algorithm))
        said = f"&Hash-Algorithm={self.algorithm}" if self.algorithm else ""
        return f"Signature={b64(signature)}&Key-Pair-Id={self.key_id}{said}"

    @staticmethod
    def _appended(url: str, query: str) -> str:
        return f"{url}{'&' if '?' in url else '?'}{query}"


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode().translate(str.maketrans("+=/", "-_~"))
