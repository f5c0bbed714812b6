"""The bill: what nodes, balancers, traffic and requests cost in a month of constant load."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tools.capacity import prices


@dataclass(frozen=True, slots=True)
class Usage:
    """Of one hour. nodes: dollars of all of them. delivered: GB to viewers; balanced: GB through the load balancer;
    between: GB from holders to edges; cdn: whether the viewers' GB leave through CloudFront (else from the nodes).

    requests: by players of the CDN; shielded: by it of the edges. reads, writes: DynamoDB units. connections: new ones
    a second and open ones at the balancer.
    """

    nodes: float
    delivered: float
    balanced: float
    between: float
    requests: float
    shielded: float
    reads: float
    writes: float
    joins: float
    open: float
    cdn: bool = True


def month(usage: Usage) -> Mapping[str, float]:
    """Dollars by item, of 730 hours like this one."""
    hours = prices.HOURS_PER_MONTH
    lcu = max(
        usage.balanced / prices.LCU_GB,
        usage.joins / prices.LCU_NEW_CONNECTIONS,
        usage.open / prices.LCU_ACTIVE_CONNECTIONS,
    )
    nlcu = max(usage.balanced, usage.joins / prices.NLB_NEW_CONNECTIONS, usage.open / prices.NLB_ACTIVE_CONNECTIONS)
    balancing = 2 * prices.BALANCER_HOUR  # one for pushes, one for players
    balancing += lcu * prices.ALB_LCU_HOUR if usage.cdn else nlcu * prices.NLB_LCU_HOUR
    tiers = prices.CLOUDFRONT_GB if usage.cdn else prices.INTERNET_GB
    asked = usage.requests * prices.CLOUDFRONT_REQUEST + usage.shielded * prices.ORIGIN_SHIELD_REQUEST
    return {
        "nodes": usage.nodes * hours,
        "balancers": balancing * hours,
        "between zones": usage.between * prices.BETWEEN_GB * hours,
        "registry": (usage.reads * prices.DYNAMODB_READ + usage.writes * prices.DYNAMODB_WRITE) * hours,
        "requests": asked * hours if usage.cdn else 0.0,
        "traffic": prices.tiered(usage.delivered * hours, tiers),
    }
