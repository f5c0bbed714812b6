"""The numbers of the reports of other nodes, so that a report that was sent again counts once."""

from collections.abc import Mapping
from typing import Final

from gateway.lib.bounded_dict import BoundedDict
from gateway.lib.numbers import read_integer

REPORT: Final = "report"  # the parameter with the number
_MAX_NUMBER: Final = 10**15
_MAX_SENDERS: Final = 20_000


class ReportNumbers:
    """The last number of each node for each channel, of at most _MAX_SENDERS such pairs.

    The numbers of a node increase. It sends the next report of a channel when the last one was answered.
    """

    def __init__(self) -> None:
        self._last: BoundedDict[tuple[str, str], int] = BoundedDict(_MAX_SENDERS)

    def is_new(self, channel: str, query: Mapping[str, str]) -> bool:
        """Whether a report was not taken before. From now on it was. A report without a number is new."""
        number = read_integer(query.get(REPORT, ""), _MAX_NUMBER, 1)
        if number is None:
            return True
        sender = query.get("node", ""), channel
        last = self._last.get(sender, 0)
        self._last[sender] = max(number, last)
        return number > last
