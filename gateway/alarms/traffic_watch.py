"""Reports the channels that have sent more than a rule allows them on this UTC day."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Final

from gateway.alarms.fault import Fault, FaultKind
from gateway.alarms.fault_board import FaultBoard
from gateway.alarms.rule import AlarmRule
from gateway.diagnosis.daily_traffic import DailyTraffic
from gateway.ports.errors import StoreUnavailable

SECONDS: Final = 5.0  # between two looks


class TrafficWatch:
    """`run` looks regularly. Only one process of a host needs it. rules: returns the rules of the alarms."""

    def __init__(self, board: FaultBoard, rules: Callable[[], Sequence[AlarmRule]], traffic: DailyTraffic) -> None:
        self._board, self._rules, self._traffic = board, rules, traffic

    async def run(self) -> None:
        while True:
            await self.look(time.time())
            await asyncio.sleep(SECONDS)

    async def look(self, now: float) -> None:
        """Reports the present state; keeps the last one while the store is unavailable. now: seconds since 1970."""
        limits = {rule.gigabytes for rule in self._rules() if FaultKind.TRAFFIC in rule.on}
        day = self._traffic.days[0]
        try:
            sums = await self._traffic.of_day(day) if limits else {}
        except StoreUnavailable:
            return
        over = [(id, sent, most) for id, (_, sent) in sums.items() for most in limits if sent >= most * 1e9]
        self._board.report(FaultKind.TRAFFIC, [_fault(*found, day, now) for found in over])


def _fault(channel: str, sent: int, limit: float, day: str, now: float) -> Fault:
    text = f"{sent / 1e9:.3f} GB were sent to its viewers on {day} (UTC). The limit is {limit:g} GB."
    return Fault(FaultKind.TRAFFIC, channel, f"{day} {limit}", now, text, limit=limit)
