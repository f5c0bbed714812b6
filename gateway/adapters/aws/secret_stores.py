"""Secrets in SSM's Parameter Store and in Secrets Manager, each with its previous value."""

from typing import Any

from botocore.exceptions import ClientError

from gateway.adapters.aws.session import AwsSession, error_code
from gateway.ports.errors import StoreUnusable
from gateway.ports.stores import SecretValue

_NOT_FOUND_CODES = frozenset({"ResourceNotFoundException", "ParameterNotFound", "ParameterVersionNotFound"})
# Errors that an operator must fix.
_PERMANENT_CODES = _NOT_FOUND_CODES | {
    *("AccessDeniedException", "ValidationException", "InvalidParameterException", "InvalidRequestException"),
    *("DecryptionFailure", "InvalidKeyId"),
}


class SsmSecrets:
    """A SecretStore: parameters of any type, by name or ARN. The previous version has the previous value.

    Needs ssm:GetParameter, and kms:Decrypt for a SecureString with a customer-managed key.
    """

    def __init__(self, session: AwsSession) -> None:
        self._session = session

    async def read(self, name: str) -> SecretValue:
        parameter = await self._get(name, name)
        if parameter is None:
            raise StoreUnusable(f"there is no parameter {name}")
        version = int(parameter.get("Version", 1))
        previous = await self._get(name, f"{name}:{version - 1}") if version > 1 else None
        return _value(name, parameter, previous, "Value", "LastModifiedDate")

    async def _get(self, name: str, selector: str) -> Any:
        """Returns None if the parameter or version does not exist."""
        async with self._session.client_for("ssm", f"parameter {name}", _region(name)) as client:
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
        previous = await self._get(name, "AWSPREVIOUS")
        return _value(name, current, previous, "SecretString", "CreatedDate")

    async def _get(self, name: str, version_stage: str) -> Any:
        """Returns None if the secret or version does not exist."""
        async with self._session.client_for("secretsmanager", f"secret {name}", _region(name)) as client:
            try:
                return await client.get_secret_value(SecretId=name, VersionStage=version_stage)
            except ClientError as error:
                return _none_or_raise(error, f"secret {name}")


def _none_or_raise(error: ClientError, label: str) -> None:
    """Returns None if the secret is missing. Raises StoreUnusable for other permanent errors, else the error itself."""
    code = error_code(error)
    if code in _NOT_FOUND_CODES:
        return
    if code in _PERMANENT_CODES:
        raise StoreUnusable(f"{label} cannot be read: {code}") from None
    raise error


def _value(name: str, current: Any, previous: Any, text: str, time: str) -> SecretValue:
    """Returns the value in two answers. text, time: the names of the members with the text and the time."""
    value, modified = current.get(text), current.get(time)
    if not isinstance(value, str) or not value.strip():
        raise StoreUnusable(f"{name} has no text value")
    earlier = str(previous.get(text) or "").strip() if previous is not None else ""
    return SecretValue(value.strip(), earlier, modified.timestamp() if modified is not None else 0.0)


def _region(name: str) -> str:
    """Returns the region of an ARN; "" for a plain name."""
    return name.split(":")[3] if name.startswith("arn:") else ""
