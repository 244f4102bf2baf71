"""What a run works with, and how long it waits before the next one. Holds things together, does nothing with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from foreman.clock import Clock
from foreman.commands.ledger import Ledger
from foreman.storage.reading import Read
from foreman.tails import Tails
from foreman.target.client import Target
from foreman.target.inventory import Inventory
from foreman.target.residency import Residency
from foreman.worker.stall import Patience

FIRST_BACKOFF_S: Final = 1.0
LONGEST_BACKOFF_S: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What a run works with."""

    ledger: Ledger
    read: Read
    target: Target
    inventory: Inventory
    residency: Residency
    tails: Tails
    clock: Clock
    #: Added to requests that say nothing of it, as Ollama takes it: a number of seconds or a duration.
    keep_alive: int | str
    #: With how much silence of the target.
    patience: Patience


def backoff_s(attempt: int) -> float:
    """Seconds to wait after attempt number `attempt` (from 1 on) has broken."""
    return float(min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2 ** max(0, attempt - 1)))
