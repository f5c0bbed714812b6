"""The database as a witness: a trigger writes each change of a claim's row into a table, in the same transaction."""

from __future__ import annotations

import time

import asyncpg

from bench.claims.history import Change, Row

# The number is taken while the row is locked. So the numbers of one stream have the order of its changes.
_TABLES = """
CREATE TABLE bench_changes (
    number bigserial PRIMARY KEY, time double precision, stream text, process text,
    old_claim text, old_node text, old_left integer, new_claim text, new_node text, new_left integer
);
CREATE FUNCTION bench_record() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO bench_changes (time, stream, process, old_claim, old_node, old_left, new_claim, new_node, new_left)
    VALUES (extract(epoch FROM clock_timestamp()), COALESCE(NEW.stream, OLD.stream),
        current_setting('application_name'), OLD.claim, OLD.node, OLD."left", NEW.claim, NEW.node, NEW."left");
    RETURN NULL;
END $$;
CREATE TRIGGER bench_record AFTER INSERT OR UPDATE OR DELETE ON holdings
    FOR EACH ROW EXECUTE FUNCTION bench_record();
"""
_CHANGES = """
SELECT number, time, stream, process, old_claim, old_node, old_left, new_claim, new_node, new_left
FROM bench_changes ORDER BY number
"""


async def install(url: str) -> None:
    """Begins the record. The tables of the gateways must exist."""
    connection = await asyncpg.connect(url, timeout=5)
    try:
        await connection.execute(_TABLES)
    finally:
        await connection.close()


async def changes(url: str) -> list[Change]:
    """Returns all changes since `install`, with times of CLOCK_MONOTONIC."""
    ahead = time.time() - time.monotonic()
    connection = await asyncpg.connect(url, timeout=5)
    try:
        rows = await connection.fetch(_CHANGES)
    finally:
        await connection.close()
    return [
        Change(number, at - ahead, stream, _row(*values[:3]), _row(*values[3:]), process)
        for number, at, stream, process, *values in rows
    ]


def _row(claim: str | None, node: str | None, left: int | None) -> Row | None:
    return None if claim is None or node is None else Row(claim, node, bool(left))
