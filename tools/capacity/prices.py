"""Unit prices: assumptions for us-east-1, list prices as read in November 2026, to be checked before money is spent.

Nothing here was taken from a bill. Discounts (Savings Plans, Spot, CloudFront commitments) and free tiers are left out;
other regions differ (most by 5 to 40 %), the regions of China have a list of their own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

REGION: Final = "us-east-1"
HOURS_PER_MONTH: Final = 730

# Compute, dollars an hour.
FARGATE_VCPU_HOUR: Final = 0.04048
FARGATE_GB_HOUR: Final = 0.004445
C7G_LARGE_HOUR: Final = 0.0725
C7G_XLARGE_HOUR: Final = 0.1450
C7GN_LARGE_HOUR: Final = 0.1248
C7GN_XLARGE_HOUR: Final = 0.2496
C7GN_2XLARGE_HOUR: Final = 0.4992
PUBLIC_IPV4_HOUR: Final = 0.005

# Load balancers.
BALANCER_HOUR: Final = 0.0225  # each, ALB or NLB
ALB_LCU_HOUR: Final = 0.008
LCU_GB: Final = 1.0  # an hour
LCU_NEW_CONNECTIONS: Final = 25.0  # a second
LCU_ACTIVE_CONNECTIONS: Final = 3000.0
NLB_LCU_HOUR: Final = 0.006
NLB_NEW_CONNECTIONS: Final = 800.0
NLB_ACTIVE_CONNECTIONS: Final = 100_000.0

# Traffic, dollars a GB. Tiers: (TB of the month, dollars a GB), the last one without an end.
Tiers = Sequence[tuple[float, float]]
CLOUDFRONT_GB: Final[Tiers] = (
    (10, 0.085), (40, 0.080), (100, 0.060), (350, 0.040), (524, 0.030), (4000, 0.025), (float("inf"), 0.020),
)  # fmt: skip
INTERNET_GB: Final[Tiers] = ((10, 0.09), (40, 0.085), (100, 0.07), (float("inf"), 0.05))
CLOUDFRONT_REQUEST: Final = 1.00e-6  # HTTPS
ORIGIN_SHIELD_REQUEST: Final = 0.75e-6
ACROSS_ZONES_GB: Final = 0.02  # 0.01 on either side
BETWEEN_GB: Final = ACROSS_ZONES_GB * 2 / 3  # from a gateway to an edge, which are spread over three zones

# State.
DYNAMODB_WRITE: Final = 0.625e-6  # a write request unit, on demand
DYNAMODB_READ: Final = 0.125e-6
S3_PUT: Final = 5e-6
S3_GET: Final = 0.4e-6
S3_GB_MONTH: Final = 0.023


def _told(tiers: Tiers) -> str:
    return ", ".join(f"${price} {f'for {tb:g} TB' if math.isfinite(tb) else 'beyond'}" for tb, price in tiers) + " (GB)"


# Every price with its unit, for the page.
LIST: Final = (
    ("Fargate, Linux x86", f"${FARGATE_VCPU_HOUR}/vCPU-h, ${FARGATE_GB_HOUR}/GB-h"),
    ("EC2 c7g.large, c7g.xlarge", f"${C7G_LARGE_HOUR}/h, ${C7G_XLARGE_HOUR}/h"),
    ("EC2 c7gn.large, xlarge, 2xlarge", f"${C7GN_LARGE_HOUR}/h, ${C7GN_XLARGE_HOUR}/h, ${C7GN_2XLARGE_HOUR}/h"),
    ("public IPv4 address", f"${PUBLIC_IPV4_HOUR}/h"),
    ("ALB, NLB", f"${BALANCER_HOUR}/h each; ${ALB_LCU_HOUR}/LCU-h, ${NLB_LCU_HOUR}/NLCU-h (1 GB, see prices.py)"),
    ("CloudFront to viewers", _told(CLOUDFRONT_GB)),
    ("CloudFront requests", f"${CLOUDFRONT_REQUEST * 1e6:.2f} a million (HTTPS)"),
    ("CloudFront Origin Shield", f"${ORIGIN_SHIELD_REQUEST * 1e6:.2f} a million requests"),
    ("EC2 to the internet", _told(INTERNET_GB)),
    ("between availability zones", f"${ACROSS_ZONES_GB}/GB, both sides together"),
    ("DynamoDB on demand", f"${DYNAMODB_WRITE * 1e6:.3f} a million writes, ${DYNAMODB_READ * 1e6:.3f} a million reads"),
    ("S3", f"PUT ${S3_PUT * 1e3:.3f}, GET ${S3_GET * 1e3:.4f} a thousand; ${S3_GB_MONTH}/GB-month"),
)  # fmt: skip


def tiered(gb: float, tiers: Tiers) -> float:
    """Dollars of so many GB in one month."""
    due, left = 0.0, gb
    for terabytes, price in tiers:
        here = min(left, terabytes * 1000)
        due += here * price
        left -= here
    return due
