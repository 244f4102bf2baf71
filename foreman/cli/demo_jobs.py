"""The demo's jobs: what is to be sent, and what is known of each by now. Sends nothing and prints nothing."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import groupby
from typing import Any, Final

FINISHED: Final = frozenset({"done", "failed", "cancelled"})


class How(StrEnum):
    """The three ways to have foreman do something."""

    BLOCKING = "blocking"
    STREAMED = "streamed"
    JOB = "job"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One job to be sent."""

    number: int
    model: str
    how: How
    prompt: str
    #: Seconds to let pass before it is sent.
    pause_s: float
    most_tokens: int

    @property
    def body(self) -> dict[str, Any]:
        """The request, in Ollama's own form."""
        # A seed, so that the answers are the same at each run on the same machine.
        options = {"num_predict": self.most_tokens, "seed": self.number}
        return {"model": self.model, "messages": [{"role": "user", "content": self.prompt}], "options": options}


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What the log says of a job."""

    #: The log position of its arrival: the order in which a plain first come, first served would take the jobs.
    arrived: int
    load_key: str
    #: The log position of its start; None before that.
    started: int | None = None
    #: Seconds that loading its model took; None if it was loaded already.
    load_s: float | None = None
    waited_s: float | None = None


@dataclass(slots=True, kw_only=True)
class Item:
    """A job as far as the demo knows by now."""

    order: Order
    job_id: str = ""
    #: The job's id as the answer of a call names it.
    answered_as: str = ""
    #: foreman's word for it, empty until it has arrived, and how many events the log had of it then.
    state: str = ""
    version: int = 0
    #: Its place in the line while it is queued, 1 = next.
    position: int | None = None
    text: str = ""
    run_s: float | None = None
    history: History | None = None
    #: When it ended, among the demo's jobs: 1 = first.
    ended: int | None = None
    faults: list[str] = field(default_factory=list)


def orders(brief: str, story: str) -> list[Order]:
    """Sixteen jobs that alternate between two models: most at once, the last four while the others are worked off."""
    questions = (
        "What is a queue?",
        "Why is the sky blue?",
        "What is the capital of France?",
        "What does a foreman do?",
        "Name three things that float.",
        "What is water made of?",
        "Why do cats purr?",
        "What is a good breakfast?",
    )
    heroes = (
        "a hen who wanted to fly",
        "a ship in a bottle",
        "the last train home",
        "a clock that ran backwards",
        "a snail who won a race",
        "a lamp that was afraid of the dark",
        "two clouds",
        "a very patient queue",
    )
    prompts = [
        each for pair in zip(questions, (f"Tell me about {hero}." for hero in heroes), strict=True) for each in pair
    ]
    # Two of each kind in a row, so that each model gets all of them.
    kinds = (How.STREAMED, How.STREAMED, How.JOB, How.JOB, How.BLOCKING, How.BLOCKING)
    return [
        Order(
            number=index + 1,
            model=story if index % 2 else brief,
            how=kinds[index % len(kinds)],
            prompt=prompt,
            pause_s=0.05 if index < 12 else 0.8,
            most_tokens=140 if index % 2 else 64,
        )
        for index, prompt in enumerate(prompts)
    ]


def loads_in_order(load_keys: Sequence[str]) -> int:
    """How often a model is loaded if jobs with these load keys run strictly one after another, in this order."""
    return sum(1 for _ in groupby(load_keys))


class Board:
    """All jobs of the demo, and the sums over them."""

    def __init__(self, wanted: Sequence[Order]) -> None:
        self.items = [Item(order=order) for order in wanted]
        self.began = time.monotonic()

    @property
    def elapsed_s(self) -> float:
        """Seconds since the first job was about to be sent."""
        return time.monotonic() - self.began

    @property
    def histories(self) -> list[History]:
        """What the log says of the jobs, in the order of their arrival."""
        known = [item.history for item in self.items if item.history is not None]
        return sorted(known, key=lambda history: history.arrived)

    @property
    def load_times_s(self) -> list[float]:
        """The seconds of each load so far."""
        return [history.load_s for history in self.histories if history.load_s is not None]

    def loads_first_come_first_served(self) -> int:
        """The loads that as many jobs as have been started would have cost in the order of their arrival."""
        started = sum(history.started is not None for history in self.histories)
        return loads_in_order([history.load_key for history in self.histories[:started]])

    def in_state(self, *states: str) -> list[Item]:
        """The jobs in one of these states."""
        return [item for item in self.items if item.state in states]

    @property
    def finished(self) -> bool:
        """Whether every job is over."""
        return all(item.state in FINISHED for item in self.items)
