"""When a call to the target has stalled: no byte for too long, as seen by a loop that was awake. Retries nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from foreman.clock import Clock
from foreman.errors import TargetBroke

#: An answer that is kept back until it is whole tells nothing while it is made, so it has this many times as long:
#: an hour for the first byte, with the defaults.
UNSEEN: Final = 12
#: How often the silence is looked at within its limit. It may last longer than the limit by one such slice.
SLICES: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How many seconds without a byte are too many; 0 means any number is fine."""

    #: Until the first byte of the answer.
    start_s: float
    #: Between two pieces of it.
    between_s: float

    def for_the_unseen(self) -> Patience:
        """The patience with an answer that is made out of sight."""
        return Patience(start_s=self.start_s * UNSEEN, between_s=self.between_s * UNSEEN)


class Stalled(TargetBroke):
    """The target showed no sign of life for too long."""

    def __init__(self, silence: Silence) -> None:
        self.begun = silence.begun
        self.silent_s = silence.lasted_s
        what = "the target's answer stood still" if self.begun else "the target took the request and said nothing"
        super().__init__(f"{what} for {self.silent_s:.1f} s")


class Silence:
    """How long a call has had no byte, on the monotonic clock.

    Only time in which the loop looked on counts. After a gap, such as a laptop's sleep, bytes may lie unread and
    connections need a moment, so the count begins anew.
    """

    def __init__(
        self, patience: Patience, clock: Clock, on_sign: Callable[[], None], signs: Callable[[], int] = int
    ) -> None:
        """`on_sign` is called at each sign of life; `signs` counts those of every call."""
        self.patience = patience
        self.lasted_s = 0.0
        #: The answer itself has begun; a status line alone may come from a proxy.
        self.begun = False
        limits = [limit for limit in (patience.start_s, patience.between_s) if limit]
        #: How often to look; None if nothing is ever too long.
        self.slice_s = min(limits) / SLICES if limits else None
        self._clock = clock
        self._looked_at = clock.monotonic()
        self._on_sign = on_sign
        self._signs, self._seen = signs, signs()

    def ended(self, *, begun: bool = True) -> None:
        """A sign of life: a piece of the answer, or its status line."""
        self.begun = self.begun or begun
        self.lasted_s = 0.0
        self._looked_at = self._clock.monotonic()
        if begun:
            self._on_sign()  # a status line alone may come from a proxy
        self._seen = self._signs()

    def is_too_long(self) -> bool:
        """Look, once a slice, and say whether the call has stalled."""
        if self.slice_s is None:
            return False
        now = self._clock.monotonic()
        passed_s, self._looked_at = now - self._looked_at, now
        self.lasted_s = self.lasted_s + passed_s if passed_s <= 2 * self.slice_s else 0.0
        limit_s = self.patience.between_s if self.begun else self.patience.start_s
        if not self.begun and self._signs() != self._seen:
            # It may stand in the target's own queue, behind a call that is being answered.
            limit_s *= UNSEEN
        return 0 < limit_s <= self.lasted_s


@asynccontextmanager
async def breaking(silence: Silence) -> AsyncIterator[None]:
    """Leave the block by Stalled as soon as the silence is too long."""
    loop = asyncio.get_running_loop()
    timer: asyncio.TimerHandle | None = None

    def look() -> None:
        nonlocal timer
        if silence.is_too_long():
            scope.reschedule(loop.time())
        elif silence.slice_s is not None:
            timer = loop.call_later(silence.slice_s, look)

    scope = asyncio.timeout(None)
    try:
        async with scope:
            look()
            try:
                yield
            finally:
                if timer is not None:
                    timer.cancel()
    except TimeoutError:
        if not scope.expired():
            raise
        raise Stalled(silence) from None
