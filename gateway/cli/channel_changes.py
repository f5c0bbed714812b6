"""The changes of channels by commands. A running gateway reads them from the store within 5 s."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import typer

if TYPE_CHECKING:
    from gateway.adapters.stores import Stores
    from gateway.channels.channel_changes import ChannelChanges
    from gateway.ports.events import Event

AUTHOR: Final = {"by": "command line"}  # of the events


def channel_changes(stores: Stores, bin_hours: int = 0) -> ChannelChanges:
    """Returns what changes channels in these stores. If the events log is not available, the user gets a warning.

    bin_hours: that a deleted channel can be restored.
    """
    from gateway.channels.channel_changes import ChangeEffects, ChannelChanges
    from gateway.diagnosis.event_log import EventIds, stored_event
    from gateway.ports.errors import StoreUnavailable

    async def record(event: Event) -> None:
        try:
            await stores.events.append([stored_event(event, EventIds().next(event.time), "")])
        except StoreUnavailable as error:
            typer.echo(f"warning: the change is stored, but is not in the events log: {error}", err=True)

    return ChannelChanges(stores.channels, stores.objects, ChangeEffects(record), bin_hours=bin_hours)
