"""Output descriptors. Each folder of `gateway.outputs` exports one `OUTPUT`, or several as `OUTPUTS`.

Importing a descriptor must be fast, because every process imports all of them. `make` imports the output itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from gateway.channels.fields import Field
    from gateway.live.output import OutputSpec, StreamOutput
    from gateway.live.stream import Stream
    from gateway.outputs.services import OutputServices

LocalizedText: TypeAlias = Mapping[str, str]  # text by language: "en" and "zh"


@dataclass(frozen=True, slots=True)
class OutputField:
    """A channel field that an output adds.

    field: its type, its bounds, and its default. label: its name in the console.
    unit: the unit that the console shows after the value.
    """

    field: Field[Any]
    label: LocalizedText
    unit: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputDescriptor:
    """All information about an output for the gateway, API, console and metrics.

    name: in the API, in metrics and in logs. flag: the channel field that switches it on.
    make: returns the spec; None if this gateway cannot have the output.
    fields: by name, including the flag. Only for outputs outside the API contract (`docs/extending.md`): fields of
    the contract are in `gateway.channels.fields`.
    label: its name in the console; empty if the console has its own text.
    order: outputs start in this order, lowest first. Outputs that change the picture come before those that read it.
    """

    name: str
    flag: str
    make: Callable[[OutputServices], OutputSpec | None]
    fields: Mapping[str, OutputField] = field(default_factory=dict)
    label: LocalizedText = field(default_factory=dict)
    order: int = 100

    def spec(
        self, make: Callable[[Stream], StreamOutput], enabled: Callable[[Stream], bool] | None = None
    ) -> OutputSpec:
        """Returns the spec of this output.

        make: makes the output of one stream.
        enabled: whether a stream has this output; None: sources whose channel has the flag.
        """
        from gateway.live.output import OutputSpec

        def has_flag(stream: Stream) -> bool:
            return stream.is_source and stream.channel.flag(self.flag)

        return OutputSpec(self.name, make, enabled or has_flag)
