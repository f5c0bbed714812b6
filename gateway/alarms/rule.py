"""A rule of the alarms, as the API reads and shows it and as the store has it."""

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from gateway.alarms.fault import Fault, FaultKind
from gateway.channels import message_target as target
from gateway.channels.schedule import time_zone
from gateway.ports.errors import InvalidField

MAX_RULES, MAX_CHANNELS, MAX_AFTER, MAX_GIGABYTES = 50, 1_000, 86_400, 1e9
_CLOCK: Final = r"^([01][0-9]|2[0-3]):[0-5][0-9]$"
_NAME: Final = r"^[^\x00-\x1f\x7f/\\]{1,64}$"


class QuietHours(BaseModel):
    """The time of day in which a rule sends nothing; it may pass midnight. zone: as in the IANA database."""

    model_config = ConfigDict(frozen=True, defer_build=True, populate_by_name=True)

    begin: str = Field(alias="from", pattern=_CLOCK)
    to: str = Field(pattern=_CLOCK)
    zone: str = "UTC"

    @field_validator("zone")
    @classmethod
    def _check_zone(cls, zone: str) -> str:
        time_zone(zone)
        return zone

    @property
    def tzinfo(self) -> tzinfo:
        return time_zone(self.zone)

    def contains(self, now: float) -> bool:
        """Whether it is quiet. now: seconds since 1970."""
        clock = f"{datetime.fromtimestamp(now, self.tzinfo):%H:%M}"
        return self.begin <= clock < self.to if self.begin <= self.to else clock >= self.begin or clock < self.to


class AlarmRule(BaseModel):
    """A rule. after: seconds for which a fault must last. channels: ids; empty: all. to: where its messages go.

    gigabytes: of `traffic`: what one channel may send to its viewers on one UTC day, in 10⁹ bytes.

    stops: whether `off_air` includes broadcasts that the encoder or a user ended. quiet: null: never quiet.
    """

    model_config = ConfigDict(frozen=True, defer_build=True)

    name: str = Field(pattern=_NAME)
    on: Annotated[tuple[FaultKind, ...], Field(min_length=1, max_length=len(FaultKind))]
    gigabytes: float = Field(0, ge=0, le=MAX_GIGABYTES, validate_default=True)
    after: float = Field(0, ge=0, le=MAX_AFTER)
    channels: Annotated[tuple[Annotated[str, Field(max_length=64)], ...], Field(max_length=MAX_CHANNELS)] = ()
    to: str = Field(repr=False)
    stops: bool = True
    quiet: QuietHours | None = None

    @field_validator("gigabytes")
    @classmethod
    def _check_gigabytes(cls, gigabytes: float, info: ValidationInfo) -> float:
        if not gigabytes and FaultKind.TRAFFIC in info.data.get("on", ()):
            raise ValueError("expected a number above 0, because `on` has traffic")
        return gigabytes

    @field_validator("to")
    @classmethod
    def _check_to(cls, text: str) -> str:
        target.parse(text)
        return text

    @property
    def zone(self) -> tzinfo:
        """The zone of the times in messages."""
        return self.quiet.tzinfo if self.quiet is not None else UTC

    def covers(self, fault: Fault) -> bool:
        """Whether the rule tells this fault. A fault of a node has no channel and concerns all."""
        if fault.kind not in self.on or (fault.stopped and not self.stops):
            return False
        if fault.kind is FaultKind.TRAFFIC and fault.limit != self.gigabytes:
            return False
        return not self.channels or not fault.channel or fault.channel in self.channels

    def shown(self) -> dict[str, Any]:
        """Returns the rule as JSON without secrets."""
        return self.stored() | {"to": target.parse(self.to).shown}

    def stored(self) -> dict[str, Any]:
        """Returns the rule as JSON with its secrets."""
        return self.model_dump(mode="json", by_alias=True)


def restored(sent: Any, rules: Sequence[AlarmRule]) -> Any:
    """Returns a sent rule with the stored address in the place of its masked one.

    The rest of the address must be equal. A rule of the same name comes first, so that a rule can be renamed.
    Raises InvalidField if no stored address matches.
    """
    if not isinstance(sent, Mapping) or not isinstance(sent.get("to"), str) or target.MASK not in sent["to"]:
        return sent
    same = [rule for rule in rules if target.parse(rule.to).shown == sent["to"]]
    named = [rule.to for rule in same if rule.name == sent.get("name")]
    found = set(named or [rule.to for rule in same])
    if len(found) != 1:
        raise InvalidField("to", "the masked address matches no stored address: enter it whole")
    return {**sent, "to": found.pop()}


class StoredRules:
    """The rules with the times since when they hold, and the address of the console for links.

    since: by name. A fault that began earlier is not told, so that a new rule does not tell old ones.
    """

    def __init__(
        self, rules: Sequence[AlarmRule] = (), since: Mapping[str, float] | None = None, console: str = ""
    ) -> None:
        self.rules, self.since, self.console = tuple(rules), dict(since or {}), console

    def replaced(self, rules: Sequence[AlarmRule], console: str) -> "StoredRules":
        """Returns new rules. A rule that concerns the same as before keeps its time."""
        before = {rule.name: (rule.on, rule.channels) for rule in self.rules}
        now = time.time()
        kept = {r.name: self.since.get(r.name, now) for r in rules if before.get(r.name) == (r.on, r.channels)}
        return StoredRules(rules, {rule.name: kept.get(rule.name, now) for rule in rules}, console)

    def as_json(self) -> dict[str, Any]:
        return {"rules": [rule.stored() for rule in self.rules], "since": self.since, "console": self.console}

    @classmethod
    def of(cls, value: Mapping[str, Any] | None) -> "StoredRules":
        """Returns the rules of a stored value."""
        if value is None:
            return cls()
        return cls([AlarmRule.model_validate(rule) for rule in value["rules"]], value["since"], value["console"])
