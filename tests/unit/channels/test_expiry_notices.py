"""The notices of keys that expire soon: one a day for each channel and date, for all nodes together."""

from collections.abc import Mapping, Sequence
from typing import Any

from gateway.channels.channel import Channel
from gateway.channels.expiry_notices import ExpiryNotices
from gateway.ports.events import Event
from tests.support import builders

DAY, NOW = 86_400, 1_700_000_000


class Notes:
    """The console's store, which all nodes share. It forgets entries at their time."""

    def __init__(self) -> None:
        self.now = float(NOW)
        self.entries: dict[tuple[str, str], float] = {}

    async def add(self, kind: str, key: str, value: Mapping[str, Any], expires: float = 0) -> bool:
        if self.entries.get((kind, key), 0.0) > self.now:
            return False
        self.entries[kind, key] = expires
        return True


class Channels:
    def __init__(self, *channels: Channel) -> None:
        self.channels = list(channels)

    async def list(self) -> list[Channel]:
        return self.channels


def expiring(id: str, seconds: int) -> Channel:
    return builders.channel(id, key=f"{NOW + seconds}-{'0' * 64}", videoname=f"name of {id}")


async def test_a_key_is_announced_once_a_day_from_seven_days_before_its_date():
    notes, told, reported = Notes(), list[Event](), list[Sequence[Channel]]()
    channels = Channels(expiring("soon", 3 * DAY), expiring("later", 8 * DAY), expiring("over", -1))
    nodes = [ExpiryNotices(channels, notes, told.append, reported.append, lambda: notes.now) for _ in range(2)]  # type: ignore[arg-type]
    for hour in range(5 * 24):
        notes.now = NOW + hour * 3600
        for node in nodes:
            await node.run_once()
    days = {id: [round((e.time - NOW) / DAY) for e in told if e.channel == id] for id in ("soon", "later", "over")}
    assert days == {"soon": [0, 1, 2, 3], "later": [1, 2, 3, 4], "over": []}
    assert told[0].data == {"name": "name of soon", "expires": "2023-11-17T22:13:20Z"}
    assert told[0].masked_data() == told[0].data


async def test_a_new_date_is_announced_at_once():
    notes, told, reported = Notes(), list[Event](), list[Sequence[Channel]]()
    channels = Channels(expiring("c1", DAY))
    notices = ExpiryNotices(channels, notes, told.append, reported.append, lambda: notes.now)  # type: ignore[arg-type]
    await notices.run_once()
    channels.channels = [expiring("c1", 2 * DAY)]
    await notices.run_once()
    assert [event.data["expires"][:10] for event in told] == ["2023-11-15", "2023-11-16"]
    assert [[channel.expires - NOW for channel in channels] for channels in reported] == [[DAY], [2 * DAY]]
