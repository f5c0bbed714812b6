"""The machines that nodes run on: what each has, and what an hour of it costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tools.capacity import prices


@dataclass(frozen=True, slots=True)
class Machine:
    """vcpu: cores; memory: GB; network: Gbit/s that last, in each direction; hour: dollars.

    guess: the network is a guess, because nobody publishes it. parts: how many of these make a machine, where it is one
    process's part of one: every process is a node of its own. reserved: cores that are paid for, and that Amazon ECS
    reckons a processor's use by; 0: as many as `vcpu`.
    """

    name: str
    vcpu: float
    memory: float
    network: float
    hour: float
    guess: bool = False
    parts: int = 1
    reserved: float = 0.0

    def split(self, processes: int = 0) -> Machine:
        """The part of one of so many processes, which uses one core at most. 0: one for each core."""
        parts = processes or max(1, int(self.vcpu))
        share = self.vcpu / parts
        memory, network, hour = (x / parts for x in (self.memory, self.network, self.hour))
        return Machine(self.name, min(1.0, share), memory, network, hour, self.guess, parts, share)


def fargate(vcpu: float, memory: float, network: float) -> Machine:
    """A Fargate task (Linux, x86) with a public address. network: a guess, AWS publishes none."""
    hour = vcpu * prices.FARGATE_VCPU_HOUR + memory * prices.FARGATE_GB_HOUR + prices.PUBLIC_IPV4_HOUR
    return Machine(f"Fargate {vcpu:g} vCPU / {memory:g} GB", vcpu, memory, network, hour, guess=True)


FARGATE_1: Final = fargate(1, 2, 1.0)
FARGATE_2: Final = fargate(2, 4, 1.0)
FARGATE_4: Final = fargate(4, 8, 2.0)
# Baselines, not the "up to" of the overview: a burst lasts minutes, a live stream hours.
C7G_LARGE: Final = Machine("c7g.large", 2, 4, 0.937, prices.C7G_LARGE_HOUR + prices.PUBLIC_IPV4_HOUR)
C7G_XLARGE: Final = Machine("c7g.xlarge", 4, 8, 1.876, prices.C7G_XLARGE_HOUR + prices.PUBLIC_IPV4_HOUR)
C7GN_LARGE: Final = Machine("c7gn.large", 2, 4, 6.25, prices.C7GN_LARGE_HOUR + prices.PUBLIC_IPV4_HOUR)
C7GN_XLARGE: Final = Machine("c7gn.xlarge", 4, 8, 12.5, prices.C7GN_XLARGE_HOUR + prices.PUBLIC_IPV4_HOUR)
C7GN_2XLARGE: Final = Machine("c7gn.2xlarge", 8, 16, 25.0, prices.C7GN_2XLARGE_HOUR + prices.PUBLIC_IPV4_HOUR)

ALL: Final = (FARGATE_1, FARGATE_2, FARGATE_4, C7G_LARGE, C7G_XLARGE, C7GN_LARGE, C7GN_XLARGE, C7GN_2XLARGE)
