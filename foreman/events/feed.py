"""Tells whoever waits that new events are durable. A wake-up is a hint: consumers read on from their own position."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from foreman.events.types import Position, Recorded


class Feed:
    """The head of the log as this process knows it, and those who wait for it to move."""

    def __init__(self) -> None:
        self.position = Position(0)
        #: Called with each new event, in order, after COMMIT; for what lives in this process only.
        self.listeners: list[Callable[[Recorded], None]] = []
        self._any: set[asyncio.Event] = set()
        self._streams: defaultdict[str, set[asyncio.Event]] = defaultdict(set)

    def publish(self, recorded: Sequence[Recorded]) -> None:
        """Wake everybody concerned. Only the ledger calls this, and only after COMMIT."""
        if not recorded:
            return
        self.position = recorded[-1].position
        for told in self.listeners:
            for item in recorded:
                told(item)
        for wake in self._any:
            wake.set()
        if self._streams:
            for item in recorded:
                for wake in self._streams.get(item.stream, ()):
                    wake.set()

    @contextmanager
    def watch(self, stream: str | None = None) -> Iterator[asyncio.Event]:
        """An asyncio.Event that is set at each new event, or each of one stream; clear it before reading on."""
        wake = asyncio.Event()
        if stream is None:
            self._any.add(wake)
        else:
            self._streams[stream].add(wake)
        try:
            yield wake
        finally:
            if stream is None:
                self._any.discard(wake)
            else:
                watchers = self._streams[stream]
                watchers.discard(wake)
                if not watchers:
                    del self._streams[stream]

    async def reached(self, position: Position) -> None:
        """Return once the log's head is at or past `position`."""
        with self.watch() as wake:
            while self.position < position:
                await wake.wait()
                wake.clear()
