"""The subject of an alarm: a fault, and the message about its beginning or its end."""

import re
from dataclasses import dataclass
from datetime import datetime, tzinfo
from enum import StrEnum
from typing import Any, Final

_NAME_LENGTH: Final = 100
TEXT_LENGTH: Final = 1_000


class FaultKind(StrEnum):
    """The kinds of faults that a rule can name. HEALTH: each code of a stream's health that has no kind of its own."""

    OFF_AIR = "off_air"
    ON_SLATE = "on_slate"
    OUTPUT_FAILING = "output_failing"
    HEALTH = "health"
    KEY_EXPIRES = "key_expires"
    DISK = "disk"
    NODE_GONE = "node_gone"
    TRAFFIC = "traffic"  # of one channel on one UTC day; it has no end


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault that lasts.

    channel: its id; "" for a fault of a node. subject: what exactly fails: a code, an output, a node.
    since: seconds since 1970. text: the sentence about it. stopped: whether an encoder or a user ended the broadcast.
    limit: gigabytes, of TRAFFIC.
    """

    kind: FaultKind
    channel: str
    subject: str
    since: float
    text: str
    stopped: bool = False
    limit: float = 0.0

    @property
    def key(self) -> str:
        """Identifies the fault on all nodes and after a restart."""
        return f"{self.kind}/{self.channel}/{self.subject}"


@dataclass(frozen=True, slots=True)
class AlarmMessage:
    """A message to people. id: the same for all attempts. state: begun, ended, paused or test. link: "" if unknown.

    An announcement of a show has the kind `show` and no rule. picture: its address; "": none.
    """

    id: str
    time: float
    rule: str
    state: str
    kind: str
    channel: str
    title: str
    text: str
    link: str
    picture: str = ""

    @property
    def is_show(self) -> bool:
        return self.kind == "show"

    @property
    def whole(self) -> str:
        """The message as one text."""
        return "\n".join(part for part in (self.title, self.text, self.link) if part)

    def as_json(self) -> dict[str, Any]:
        """Returns `data` of the message to a webhook."""
        names = ("kind", "title", "text", "link", "picture") if self.is_show else _MEMBERS
        return {name: getattr(self, name) for name in names}


_MEMBERS: Final = ("rule", "state", "kind", "title", "text", "link")
_TITLES: Final = {
    FaultKind.OFF_AIR: "{name} is off air",
    FaultKind.ON_SLATE: "{name}: the main input is gone",
    FaultKind.OUTPUT_FAILING: "{name}: an output fails",
    FaultKind.HEALTH: "{name}: the stream has a fault",
    FaultKind.KEY_EXPIRES: "{name}: the stream key expires soon",
    FaultKind.DISK: "The disk of {name} is nearly full",
    FaultKind.NODE_GONE: "The node {name} is gone",
    FaultKind.TRAFFIC: "{name} has sent more than its daily limit",
}
_ENDED: Final = {
    FaultKind.OFF_AIR: "{name} is on air again",
    FaultKind.ON_SLATE: "{name} shows its main input again",
    FaultKind.OUTPUT_FAILING: "{name}: the output works again",
    FaultKind.HEALTH: "{name}: the fault is over",
    FaultKind.KEY_EXPIRES: "{name}: the stream key has a later date, or has expired",
    FaultKind.DISK: "The disk of {name} has space again",
    FaultKind.NODE_GONE: "The node {name} has returned or was removed",
}
# What to do. The sentences of health faults say it themselves.
_ADVICE: Final = {
    FaultKind.OFF_AIR: "Check the encoder and its network, and start the broadcast again.",
    FaultKind.ON_SLATE: "Check the encoder of the main input and its network.",
    FaultKind.OUTPUT_FAILING: "Check the address and the key of the target, or the space on the disk.",
    FaultKind.KEY_EXPIRES: "Set a later date on the channel's page, and copy the new key to the encoder.",
    FaultKind.DISK: "Delete old recordings, or give the server a larger disk.",
    FaultKind.NODE_GONE: "Check whether the machine and its gateway run. Other nodes take over its encoders.",
    FaultKind.TRAFFIC: "The channel's page has the traffic of each day.",
}


def one_line(text: str, most: int = _NAME_LENGTH) -> str:
    """Returns a text without line breaks, control and direction characters, at most `most` characters long."""
    plain = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return plain if len(plain) <= most else plain[: most - 1] + "…"


def describe(fault: Fault, name: str, zone: tzinfo, ended: float | None = None) -> tuple[str, str]:
    """Returns the title and the text of a message. name: of the channel or the node. ended: seconds since 1970."""
    name, since = one_line(name), _time(fault.since, zone)
    if ended is not None:
        lasted = f"It began at {since} and lasted {_duration(ended - fault.since)}."
        return _ENDED[fault.kind].format(name=name), f"{one_line(fault.text, TEXT_LENGTH)} {lasted}".strip()
    parts = (one_line(fault.text, TEXT_LENGTH), f"Since {since}.", _ADVICE.get(fault.kind, ""))
    return _TITLES[fault.kind].format(name=name), "\n".join(part for part in parts if part)


def _time(seconds: float, zone: tzinfo) -> str:
    moment = datetime.fromtimestamp(seconds, zone)
    return f"{moment:%Y-%m-%d %H:%M:%S} {moment.tzname()}"


def _duration(seconds: float) -> str:
    whole = max(1, round(seconds))
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if whole >= 2 * size:
            return f"{whole // size} {unit}"
    return f"{whole} s"


def short(text: str, most: int = 200) -> str:
    """Returns the answer of a server on one line, without markup."""
    return one_line(re.sub(r"<[^>]{0,500}>", " ", text), most)
