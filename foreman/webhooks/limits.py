"""How many deliveries may be under way, to whom, so that a dead or slow receiver delays no other. Sends nothing."""

from __future__ import annotations

from typing import Final, TypeVar

PER_RECEIVER: Final = 4
#: A receiver whose last attempt took longer counts as slow, until one is faster.
SLOW_S: Final = 1.0
#: A receiver that fails so often in a row counts as failing, until it takes a delivery.
FAILING_AFTER: Final = 10
#: How much longer a failing receiver keeps its place: refusing takes no time, and thousands that are refused as fast
#: as they can be tried would cost everybody else the processor.
HELD_S: Final = 0.2
#: Slow and failing receivers that are remembered; of more, the first ones are forgotten.
REMEMBERED: Final = 10_000
_T = TypeVar("_T")


class Limits:
    """Places for deliveries under way: some for each receiver, one for each that is failing.

    All slow and all failing ones together have half of them.
    """

    def __init__(self, limit: int) -> None:
        #: Deliveries under way.
        self.taken = 0
        self._limit = limit
        self._of_poor = max(1, limit // 2)
        #: Those under way to slow or failing receivers. Counted when it changes: `admits` is asked of each in line.
        self._poor_taken = 0
        self._busy: dict[str, int] = {}
        self._slow: dict[str, None] = {}
        #: How often each has failed in a row.
        self._failures: dict[str, int] = {}

    def admits(self, receiver: str) -> bool:
        """Whether one more delivery to this receiver may begin."""
        most = 1 if self._is_failing(receiver) else PER_RECEIVER
        if self.taken >= self._limit or self._busy.get(receiver, 0) >= most:
            return False
        return self._poor_taken < self._of_poor or not self._is_poor(receiver)

    def enter(self, receiver: str) -> None:
        """A delivery begins."""
        self._busy[receiver] = self._busy.get(receiver, 0) + 1
        self._count()

    def held_s(self, receiver: str) -> float:
        """How much longer a delivery that failed just now should keep its place."""
        return HELD_S if self._is_failing(receiver) else 0.0

    def leave(self, receiver: str, took_s: float, *, failed: bool = False) -> None:
        """A delivery has ended after so many seconds."""
        self._busy[receiver] -= 1
        if not self._busy[receiver]:
            del self._busy[receiver]
        self._slow.pop(receiver, None)
        if took_s > SLOW_S:
            _remember(self._slow, receiver, None)
        failures = self._failures.pop(receiver, 0)
        if failed:
            _remember(self._failures, receiver, min(failures + 1, FAILING_AFTER))
        self._count()

    def _is_failing(self, receiver: str) -> bool:
        return self._failures.get(receiver, 0) >= FAILING_AFTER

    def _is_poor(self, receiver: str) -> bool:
        return receiver in self._slow or self._is_failing(receiver)

    def _count(self) -> None:
        self.taken = sum(self._busy.values())
        self._poor_taken = sum(busy for receiver, busy in self._busy.items() if self._is_poor(receiver))


def _remember(receivers: dict[str, _T], receiver: str, value: _T) -> None:
    receivers[receiver] = value
    if len(receivers) > REMEMBERED:
        del receivers[next(iter(receivers))]
