"""The push and pull domains in SSM parameters of the old system's console."""

from typing import Final

from gateway.adapters.aws.session import AwsSession, call
from gateway.channels.addresses import PublicDomains

_PUSH: Final = "pushDNS"
_PULL: Final = "pullDNS"


class SsmDomains:
    """A DomainStore. A parameter cannot be empty, so an empty domain is a missing parameter."""

    def __init__(self, session: AwsSession) -> None:
        self._session = session

    async def get_domains(self) -> PublicDomains:
        answer = await call(self._session.client_for("ssm", "domains"), "get_parameters", Names=[_PUSH, _PULL])
        stored = {p["Name"]: p["Value"] for p in answer["Parameters"]}
        return PublicDomains(stored.get(_PUSH, ""), stored.get(_PULL, ""))

    async def set_domains(self, domains: PublicDomains) -> None:
        values = {_PUSH: domains.push, _PULL: domains.pull}
        async with self._session.client_for("ssm", "domains") as client:
            for name, value in values.items():
                if value:
                    await client.put_parameter(Name=name, Value=value, Type="String", Overwrite=True)
            if missing := [name for name, value in values.items() if not value]:
                await client.delete_parameters(Names=missing)
