"""Keeps the embedding model in memory beside the worker model: warmed at start and after each absence."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

import orjson

from foreman.errors import TargetError
from foreman.logs import get_logger
from foreman.target.client import Target
from foreman.target.inventory import Health, Inventory
from foreman.target.names import canonical
from foreman.target.residency import Residency

log = get_logger(__name__)

#: Loading may be slow, and a target that does not get there must not hold this task for ever.
WITHIN_S: Final = 300.0
#: After a failure at a target that is there, how long until the next try; the last one repeats.
AGAIN_S: Final = (1.0, 5.0, 30.0, 300.0)


class Embedder:
    """The pinned model. `run()` is a task of the daemon's."""

    def __init__(self, model: str, target: Target, inventory: Inventory, residency: Residency) -> None:
        self._model = model
        self._target = target
        self._inventory = inventory
        self._residency = residency
        self._wanted = asyncio.Event()
        inventory.on_change.append(self._on_change)

    async def run(self) -> None:
        """Warm the model each time the target comes (back) up, and again after a while if that failed."""
        failures = 0
        while True:
            pause_s = AGAIN_S[min(failures, len(AGAIN_S)) - 1] if failures else None
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._wanted.wait()
            self._wanted.clear()
            # While the target is away its return is what there is to wait for.
            failures = failures + 1 if self._inventory.up and not await self.warm() else 0

    async def warm(self) -> bool:
        """Load the model and ask for it to be kept for ever; whether that worked."""
        model = self._inventory.find(self._model)
        self._residency.pinned = model.digest if model is not None else canonical(self._model)
        body = orjson.dumps({"model": self._model, "input": "", "keep_alive": -1})
        try:
            await self._target.fetch("POST", "/api/embed", body, within_s=WITHIN_S)
        except TargetError as error:
            log.warning("embedder.cold", model=self._model, error=str(error))
            return False
        log.info("embedder.warm", model=self._model)
        self._inventory.poll_soon()
        return True

    async def _on_change(self, before: Health, now: Health) -> None:
        if now.up and not before.up:
            self._wanted.set()
