"""The push and pull domains in SSM parameters of the old system's console."""

from __future__ import annotations

from typing import Final

from gateway.adapters.aws.session import AwsSession
from gateway.channels.addresses import PublicDomains

_PUSH: Final = "pushDNS"
_PULL: Final = "pullDNS"


class SsmDomains:
    """A DomainStore. A parameter cannot be empty, so an empty domain is a missing parameter."""

    def __init__(self, session: AwsSession) -> None:
        self._session = session

    async def get_domains(self) -> PublicDomains:
        async with self._session.client_for("ssm", "domains") as client:
            answer = await client.get_parameters(Names=[_PUSH, _PULL])
        stored = {p["Name"]: p["Value"] for p in answer["Parameters"]}
        return PublicDomains(stored.get(_PUSH, ""), stored.get(_PULL, ""))

    async def set_domains(self, domains: PublicDomains) -> None:
        async with self._session.client_for("ssm", "domains") as client:
            for name, value in ((_PUSH, domains.push), (_PULL, domains.pull)):
                if value:
                    await client.put_parameter(Name=name, Value=value, Type="String", Overwrite=True)
            if missing := [name for name, value in ((_PUSH, domains.push), (_PULL, domains.pull)) if not value]:
                await client.delete_parameters(Names=missing)
