"""How an output describes itself: each folder of `gateway.outputs` exports one `OUTPUT`, or several as `OUTPUTS`.

Importing a descriptor must stay cheap: every process reads all of them. `make` imports the output itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from gateway.channels.fields import Field
from gateway.live.output import OutputSpec, StreamOutput

if TYPE_CHECKING:
    from gateway.live.stream import Stream
    from gateway.outputs.services import OutputServices

Words: TypeAlias = Mapping[str, str]  # the same words by language: "en" and "zh"


@dataclass(frozen=True, slots=True)
class OutputField:
    """A channel field that an output brings with it.

    field: its type, its bounds and the value of a channel that lacks it. label: its name in the console. unit: what
    stands behind its value there.
    """

    field: Field[Any]
    label: Words
    unit: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputDescriptor:
    """Everything that the gateway, its API, the console and the metrics know of an output.

    name: in the API, in metrics and in logs. flag: the channel field that switches it on.
    make: gives the spec; None where this gateway cannot have the output.
    fields: by name, with the flag, of an output that is not in the contract; those of the contract stand in
    `gateway.channels.fields`. label: its name in the console; empty where the console has words of its own.
    order: outputs of a stream start from the lowest; one that changes the picture comes before those that read it.
    """

    name: str
    flag: str
    make: Callable[[OutputServices], OutputSpec | None]
    fields: Mapping[str, OutputField] = field(default_factory=dict)
    label: Words = field(default_factory=dict)
    order: int = 100

    def spec(
        self, make: Callable[[Stream], StreamOutput], wanted: Callable[[Stream], bool] | None = None
    ) -> OutputSpec:
        """The output of one stream. wanted: for which streams it is on; None: sources whose channel has the flag."""

        def flagged(stream: Stream) -> bool:
            return stream.is_source and stream.channel.flag(self.flag)

        return OutputSpec(self.name, make, wanted or flagged)
