"""The result of a run as a table, and as one object for the file of results."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from bench.claims.checker import Verdict
from bench.claims.world import Return

LIMIT = 2.0  # seconds after the database answered, in which each publisher must be back
LIMIT_PATRONI = 1.0


def quantiles(values: Sequence[float]) -> dict[str, float]:
    """Returns p50, p99 and the maximum, rounded to milliseconds."""
    if not values:
        return {}
    ordered = sorted(values)
    p99 = ordered[min(len(ordered) - 1, round(0.99 * (len(ordered) - 1)))]
    return {name: round(value, 3) for name, value in (
        ("p50", statistics.median(ordered)), ("p99", p99), ("max", ordered[-1]),
    )}  # fmt: skip


def result(
    steps: Counter[str],
    verdict: Verdict,
    returns: Sequence[Return],
    never_back: int,
    outages: Sequence[float],
    limit: float,
) -> dict[str, Any]:
    """Returns the figures of a run. never_back: channels without an accepted push at its end."""
    by_cause: dict[str, list[float]] = {}
    for one in returns:
        by_cause.setdefault(one.cause, []).append(one.seconds)
    seconds = [one.seconds for one in returns]
    return {
        "failovers": steps.total(),
        "steps": dict(steps),
        "violations": Counter(violation.kind for violation in verdict.violations),
        "changes": verdict.changes,
        "calls": verdict.calls,
        "takeovers": Counter(takeover.holder for takeover in verdict.takeovers),
        "double_services": len(verdict.double_services),
        "double_service_seconds": quantiles([seconds for _, _, seconds in verdict.double_services]),
        "returns": len(returns),
        "late": sum(one > limit for one in seconds),
        "never_back": never_back,
        "limit": limit,
        "back": quantiles(seconds),
        "back_by_cause": {cause: {"n": len(found)} | quantiles(found) for cause, found in sorted(by_cause.items())},
        "database_away": {"n": len(outages)} | quantiles(outages),
    }


def table(name: str, row: dict[str, Any]) -> str:
    """Returns a result for a terminal."""
    lines = [f"### {name}: {row['failovers']} fail-overs, {row['changes']} changes of claims, {row['calls']} calls", ""]
    lines += ["| fault | times |", "|---|---|", *(f"| {kind} | {count} |" for kind, count in row["steps"].items()), ""]
    lines += [f"| publishers back, seconds (at most {row['limit']}) | n | p50 | p99 | max |", "|---|---|---|---|---|"]
    lines.append(_line("all", {"n": row["returns"]} | row["back"]))
    lines += [_line(f"after: {cause}", found) for cause, found in row["back_by_cause"].items()]
    lines += [_line("(the database was away)", row["database_away"]), ""]
    lines.append(f"violations: {_counts(row['violations'])}; late: {row['late']}; never back: {row['never_back']}")
    lines.append(f"take-overs of a live claim, by what its holder did: {_counts(row['takeovers'])}")
    lines.append(f"double service under one holder: {row['double_services']} {row['double_service_seconds'] or ''}")
    return "\n".join(lines)


def _line(name: str, found: dict[str, Any]) -> str:
    return f"| {name} | " + " | ".join(str(found.get(column, "")) for column in ("n", "p50", "p99", "max")) + " |"


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{kind} {count}" for kind, count in sorted(counts.items())) or "none"


def good(rows: Iterable[dict[str, Any]]) -> bool:
    """Whether nothing was violated, and every publisher was back in time."""
    return all(not row["violations"] and not row["late"] and not row["never_back"] for row in rows)
