"""How nodes behave: what they ask of the registry and of each other, and when they give up.

Each value is a constant or a default of the gateway; a test compares those that it can.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Policy:
    """Seconds, where nothing else is said."""

    beat_every: float = 3.0
    check_every: float = 30.0  # of a holder's claims, so many in one request
    keep: float = 30.0  # that an answer serves
    absent: float = 0.5  # that "nobody" serves
    gather: float = 0.005  # in which look-ups become one request
    batch: int = 100  # names in one request
    names_per_second: float = 1000.0  # of one node
    most_waiting: int = 10_000
    tells_at_once: int = 16  # holders that a node tells at once how many watch, and looks up for it
    channel_keep: float = 5.0  # that what is stored of a channel serves players
    doubt: float = 2.0  # for which a holder that failed twice is not tried again
    dead_after: float = 10.0  # a beat that stands still
    silent: float = 8.0  # a link without a word
    connect: float = 2.0
    idle: float = 5.0  # that a replica nobody watches is kept
    look_again: float = 0.5  # a viewer that waits for a stream, and a replica that lost its holder


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is around the nodes: services and peers, by their documentation or by experience, not by measurement.

    Pairs are the bounds of an even distribution.
    """

    registry_latency: float = 0.005
    hop: float = 0.001  # between nodes of one region
    start: tuple[float, float] = (40.0, 60.0)  # of a Fargate task, until it answers
    healthy: float = 20.0  # until a load balancer sends to it: two checks of 10 s
    stopped: tuple[float, float] = (3.0, 10.0)  # until ECS has taken a task whose process ended from its balancer
    failed_pushes: tuple[float, float] = (10.0, 20.0)  # two checks that fail, of the balancer before the gateways …
    failed_players: tuple[float, float] = (20.0, 30.0)  # … and three, of the one before the edges
    metric_every: float = 60.0  # target tracking: points of a minute …
    points_out: int = 3  # … so many above the target until it scales out …
    points_in: int = 15  # … or below nine tenths of it until it scales in
    cooldown: float = 30.0
    encoder_again: tuple[float, float] = (2.0, 5.0)  # from a broken connection to the next try
    encoder_notices: tuple[float, float] = (10.0, 20.0)  # that nothing is acknowledged any more
    player_again: tuple[float, float] = (1.0, 3.0)
    player_notices: tuple[float, float] = (8.0, 8.0)  # that nothing arrives any more: STALL of the player pages
