"""Making: a worker is given an order and watched until it has made what was ordered, or cannot."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Final

import structlog

from gateway.transcode.launch import WorkerDied, Workers
from gateway.vod.order import Made, Order, Say, Unusable

log = structlog.get_logger(__name__)

MODULE: Final = "gateway.vod.package"
_TRIES: Final = 2  # a worker that dies may have been unlucky; a second one was not
_SILENCE: Final = 300.0  # seconds without a word after which a worker hangs


async def make(workers: Workers, order: Order, progress: Callable[[float], None], memory: int) -> Made:
    """What the order's folder then holds. progress: called with 0 to 1; memory: bytes that the worker may have, 0: any.

    Raises Unusable where the film, the disk or the machine does not allow it (one line), OutputTrouble where no worker
    can be had now. Cancelled, it ends the worker.
    """
    tries = 0
    while True:
        tries += 1
        try:
            return await _once(workers, order, progress, memory)
        except WorkerDied as died:
            if tries == _TRIES:
                raise Unusable(f"{died}, {tries} times") from None
            log.warning("the package worker died, once more", source=order.source, reason=str(died))


async def _once(workers: Workers, order: Order, progress: Callable[[float], None], memory: int) -> Made:
    async with workers.start(MODULE, "vod", writes=True, memory=memory) as worker:
        await worker.send(Say.ORDER, order.to_json())
        while True:
            kind, body = await worker.expect(_SILENCE)
            if kind == Say.PROGRESS:
                progress(float(json.loads(body)))
            elif kind == Say.FAILED:
                raise Unusable(body.decode("utf-8", "replace"))
            elif kind == Say.DONE:
                return Made.from_json(body)
