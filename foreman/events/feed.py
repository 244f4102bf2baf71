"""Tells whoever waits that new events are durable. A wake-up is a hint: consumers read on from their own position."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from foreman.events.types import Position, Recorded

#: Stands for the webhook outbox among the streams: it changes also when there is no event.
OUTBOX: Final = "outbox"


class Feed:
    """The head of the log as this process knows it, and those who wait for it to move."""

    def __init__(self) -> None:
        self.position = Position(0)
        #: Called with each new event, in order, after COMMIT; for what lives in this process only.
        self.listeners: list[Callable[[Recorded], None]] = []
        #: Who waits, by stream; None stands for all of them.
        self._watchers: defaultdict[str | None, set[asyncio.Event]] = defaultdict(set)

    def publish(self, recorded: Sequence[Recorded]) -> None:
        """Wake everybody concerned. Only the ledger calls this, and only after COMMIT."""
        if not recorded:
            return
        self.position = recorded[-1].position
        for told in self.listeners:
            for item in recorded:
                told(item)
        for stream in {None, *(item.stream for item in recorded)}:
            self.wake(stream)

    def wake(self, stream: str | None) -> None:
        """Wake who watches the stream."""
        for wake in self._watchers.get(stream, ()):
            wake.set()

    @contextmanager
    def watch(self, stream: str | None = None) -> Iterator[asyncio.Event]:
        """An asyncio.Event that is set at each new event, or each of one stream; clear it before reading on."""
        wake = asyncio.Event()
        self._watchers[stream].add(wake)
        try:
            yield wake
        finally:
            self._watchers[stream].discard(wake)
            if not self._watchers[stream]:
                del self._watchers[stream]
