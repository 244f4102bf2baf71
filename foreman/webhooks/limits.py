"""How many deliveries may be under way, to whom, so that a dead or slow receiver delays no other. Sends nothing."""

from __future__ import annotations

from collections import Counter
from enum import Enum, auto
from typing import Final, TypeVar

PER_RECEIVER: Final = 4
#: A receiver whose last attempt took no longer counts as quick. All others count as slow, new ones too: nobody knows
#: yet, and many that hang may come at once.
SLOW_S: Final = 1.0
#: A receiver that fails so often in a row counts as failing, until it takes a delivery: it is tried one by one.
FAILING_AFTER: Final = 10
#: How much longer it keeps its place each time. To be refused takes no time, so thousands of deliveries that are due
#: would be tried as fast as foreman can, and everything else would wait for the processor.
HELD_S: Final = 0.2
#: Receivers of which something is remembered; of more, the first ones are forgotten.
REMEMBERED: Final = 10_000
_T = TypeVar("_T")


class Kind(Enum):
    """What is to be expected of a receiver."""

    QUICK = auto()
    FAILING = auto()
    #: Or not known, whether it also fails or not.
    SLOW = auto()


class Limits:
    """Places for deliveries under way: some for each receiver, half of all for slow ones, a quarter for failing ones.

    The two have places of their own, since those that hang would leave none to those that fail at once.
    """

    def __init__(self, limit: int) -> None:
        #: Deliveries under way.
        self.taken = 0
        self._limit = limit
        self._most = {Kind.QUICK: limit, Kind.SLOW: max(1, limit // 2), Kind.FAILING: max(1, limit // 4)}
        #: Counted when it changes: `admits` is asked of each receiver in line.
        self._taken: Counter[Kind] = Counter()
        self._busy: dict[str, int] = {}
        self._quick: dict[str, None] = {}
        #: How often each has failed in a row.
        self._failures: dict[str, int] = {}

    def admits(self, receiver: str) -> bool:
        """Whether one more delivery to this receiver may begin."""
        if self.taken >= self._limit or self._busy.get(receiver, 0) >= (1 if self._fails(receiver) else PER_RECEIVER):
            return False
        kind = self._kind(receiver)
        return self._taken[kind] < self._most[kind]

    def enter(self, receiver: str) -> None:
        """A delivery begins."""
        self._busy[receiver] = self._busy.get(receiver, 0) + 1
        self._count()

    def held_s(self, receiver: str) -> float:
        """How much longer a delivery that failed just now should keep its place."""
        return HELD_S if self._fails(receiver) else 0.0

    def leave(self, receiver: str, took_s: float | None, *, failed: bool = False) -> None:
        """A delivery has ended after so many seconds; None if nothing was sent, which says nothing of the receiver."""
        self._busy[receiver] -= 1
        if not self._busy[receiver]:
            del self._busy[receiver]
        if took_s is not None:
            self._learn(receiver, took_s, failed=failed)
        self._count()

    def _learn(self, receiver: str, took_s: float, *, failed: bool) -> None:
        self._quick.pop(receiver, None)
        if took_s <= SLOW_S:
            remember(self._quick, receiver, None)
        failures = self._failures.pop(receiver, 0)
        if failed:
            remember(self._failures, receiver, failures + 1)

    def _fails(self, receiver: str) -> bool:
        return self._failures.get(receiver, 0) >= FAILING_AFTER

    def _kind(self, receiver: str) -> Kind:
        if receiver not in self._quick:
            return Kind.SLOW
        return Kind.FAILING if self._fails(receiver) else Kind.QUICK

    def _count(self) -> None:
        self.taken = sum(self._busy.values())
        self._taken.clear()
        for receiver, busy in self._busy.items():
            self._taken[self._kind(receiver)] += busy


def remember(receivers: dict[str, _T], receiver: str, value: _T) -> None:
    """Keep this of the receiver, as the newest of so many."""
    receivers.pop(receiver, None)
    receivers[receiver] = value
    if len(receivers) > REMEMBERED:
        del receivers[next(iter(receivers))]
