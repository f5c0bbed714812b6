"""Secrets in SSM's Parameter Store and in Secrets Manager, each with its previous value."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import ClientError

from gateway.adapters.aws.session import AwsSession, error_code
from gateway.ports.errors import StoreUnusable
from gateway.ports.stores import SecretValue

_GONE = frozenset({"ResourceNotFoundException", "ParameterNotFound", "ParameterVersionNotFound"})
# Errors that an operator has to fix.
_WRONG = _GONE | {
    *("AccessDeniedException", "ValidationException", "InvalidParameterException", "InvalidRequestException"),
    *("DecryptionFailure", "InvalidKeyId"),
}


class SsmSecrets:
    """A SecretStore: parameters of any type, by name or ARN. The previous value is that of the previous version.

    Needs ssm:GetParameter, and kms:Decrypt for a SecureString with a customer-managed key.
    """

    def __init__(self, session: AwsSession) -> None:
        self._session = session

    async def read(self, name: str) -> SecretValue:
        parameter = await self._get(name, name)
        if parameter is None:
            raise StoreUnusable(f"there is no parameter {name}")
        version = int(parameter.get("Version", 1))
        before = await self._get(name, f"{name}:{version - 1}") if version > 1 else None
        since = parameter.get("LastModifiedDate")
        return SecretValue(
            _text(parameter.get("Value"), name),
            str(before.get("Value", "")) if before is not None else "",
            since.timestamp() if since is not None else 0.0,
        )

    async def _get(self, name: str, selector: str) -> Any:
        """Returns None where there is no such parameter or version."""
        async with self._session.calling("ssm", f"parameter {name}", _region(name)) as client:
            try:
                return (await client.get_parameter(Name=selector, WithDecryption=True))["Parameter"]
            except ClientError as error:
                return _none_or_raise(error, f"parameter {name}")


class ManagedSecrets:
    """A SecretStore: secrets of Secrets Manager, by name or ARN.

    AWSCURRENT is the value, AWSPREVIOUS the previous one.

    Needs secretsmanager:GetSecretValue, and kms:Decrypt for a secret with a customer-managed key.
    """

    def __init__(self, session: AwsSession) -> None:
        self._session = session

    async def read(self, name: str) -> SecretValue:
        current = await self._get(name, "AWSCURRENT")
        if current is None:
            raise StoreUnusable(f"there is no secret {name}, or it has no value yet")
        before = await self._get(name, "AWSPREVIOUS")
        since = current.get("CreatedDate")
        return SecretValue(
            _text(current.get("SecretString"), name),
            str(before.get("SecretString") or "") if before is not None else "",
            since.timestamp() if since is not None else 0.0,
        )

    async def _get(self, name: str, stage: str) -> Any:
        """Returns None where there is no such secret or version."""
        async with self._session.calling("secretsmanager", f"secret {name}", _region(name)) as client:
            try:
                return await client.get_secret_value(SecretId=name, VersionStage=stage)
            except ClientError as error:
                return _none_or_raise(error, f"secret {name}")


def _none_or_raise(error: ClientError, what: str) -> None:
    code = error_code(error)
    if code in _GONE:
        return
    if code in _WRONG:
        raise StoreUnusable(f"{what} cannot be read: {code}") from None
    raise error


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise StoreUnusable(f"{name} holds no text")
    return value.strip()


def _region(name: str) -> str | None:
    """Returns the region of an ARN; None for a plain name."""
    return name.split(":")[3] if name.startswith("arn:") else None
