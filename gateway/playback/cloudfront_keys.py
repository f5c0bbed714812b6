"""Keys of CloudFront signatures. Only this module needs a cryptography library."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final, TypeAlias

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from gateway.ports.errors import GatewayError

PublicKey: TypeAlias = rsa.RSAPublicKey | ec.EllipticCurvePublicKey
PrivateKey: TypeAlias = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

_HASHES: Final[Mapping[str, hashes.HashAlgorithm]] = {"SHA1": hashes.SHA1(), "SHA256": hashes.SHA256()}  # noqa: S303


class UnusableKey(GatewayError):
    """A key that cannot verify or make CloudFront signatures. The message is one line."""


def load_keys(files: Mapping[str, Path]) -> dict[str, PublicKey]:
    """Returns the public keys by key pair id. Raises UnusableKey."""
    keys: dict[str, PublicKey] = {}
    for key_id, path in files.items():
        try:
            key = load_pem_public_key(path.read_bytes())
        except OSError as error:
            raise UnusableKey(f"cloudfront.public_keys: {path}: {error.strerror or error}") from None
        except (ValueError, UnsupportedAlgorithm):
            raise UnusableKey(f"cloudfront.public_keys: {path}: not a public key in PEM form") from None
        if not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
            raise UnusableKey(f"cloudfront.public_keys: {path}: not an RSA or ECDSA key")
        keys[key_id] = key
    return keys


def is_valid_signature(key: PublicKey, signature: bytes, message: bytes, algorithm: str) -> bool:
    """Whether `signature` is valid for `message` and this key. algorithm: SHA1 or SHA256."""
    try:
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, message, padding.PKCS1v15(), _HASHES[algorithm])
        else:
            key.verify(signature, message, ec.ECDSA(_HASHES[algorithm]))
    except InvalidSignature:
        return False
    return True


def load_private_key(pem: str) -> PrivateKey:
    """Returns the private key in a PEM text. Raises UnusableKey; the message never contains the text."""
    try:
        key = load_pem_private_key(pem.encode(), None)
    except TypeError:
        raise UnusableKey("cloudfront.private_key: the key has a password; remove it with openssl") from None
    except (ValueError, UnsupportedAlgorithm):
        raise UnusableKey("cloudfront.private_key: not a private key in PEM form") from None
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise UnusableKey("cloudfront.private_key: not an RSA or ECDSA key")
    return key


def make_signature(key: PrivateKey, message: bytes) -> bytes:
    """Returns the signature of a policy, with SHA-1. CloudFront expects it unless the URL names another hash."""
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(message, padding.PKCS1v15(), _HASHES["SHA1"])
    return key.sign(message, ec.ECDSA(_HASHES["SHA1"]))
