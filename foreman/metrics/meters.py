"""What this process measures of itself as it goes: commits, HTTP requests, the event loop. Begins at 0 with it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final

from foreman.clock import Clock
from foreman.metrics import table
from foreman.projections.measures import OTHER, Series

LOOK_EVERY_S: Final = 0.5


class Meters:
    """The numbers, and what is told of them. `run()` is a task of the daemon's."""

    def __init__(self, clock: Clock, endpoints: Iterable[tuple[str, str]]) -> None:
        """`endpoints`: each route with one of its methods."""
        self.series = Series()
        self._clock = clock
        for route, method in (*endpoints, (OTHER, OTHER)):
            for status in table.STATUSES:
                self.series.add(table.HTTP_REQUESTS, route, method, status, by=0)

    def committed(self, took_s: float) -> None:
        """A commit is durable."""
        self.series.observe(table.COMMIT, took_s)

    def answered(self, route: str, method: str, status: int, took_s: float) -> None:
        """An HTTP request has its answer's head."""
        known = f"{status // 100}xx"
        # A target may answer with a number that is no status of HTTP's: to its caller that is a failure.
        self.series.add(table.HTTP_REQUESTS, route, method, known if known in table.STATUSES else "5xx")
        if route != OTHER:
            ollama = route == "/" or route.startswith("/api/")
            self.series.observe(table.HTTP, took_s, "ollama" if ollama else "foreman")

    async def run(self) -> None:
        """Look at the event loop for ever."""
        while True:
            began = self._clock.monotonic()
            await asyncio.sleep(LOOK_EVERY_S)
            self.series.observe(table.LOOP_LAG, max(0.0, self._clock.monotonic() - began - LOOK_EVERY_S))
