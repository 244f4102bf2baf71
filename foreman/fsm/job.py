"""The table of a job's transitions and the only judge of them. Knows states and event types, nothing else."""

from __future__ import annotations

from enum import StrEnum
from types import MappingProxyType, SimpleNamespace
from typing import Final

from transitions import Machine, MachineError

from foreman.errors import IllegalTransition
from foreman.events.types import (
    Event,
    JobCancelled,
    JobDone,
    JobExpired,
    JobFailed,
    JobLoading,
    JobQueued,
    JobRequeued,
    JobWorking,
)


class State(StrEnum):
    """Where a job is. `new` is the moment before its first event and never stored."""

    NEW = "new"
    QUEUED = "queued"
    LOADING = "loading"
    WORKING = "working"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


WAITING: Final = frozenset({State.QUEUED})
RUNNING: Final = frozenset({State.LOADING, State.WORKING})
ACTIVE: Final = WAITING | RUNNING
FINISHED: Final = frozenset({State.DONE, State.FAILED, State.CANCELLED})

#: (event, the states it may follow, the state it leads to)
TRANSITIONS: Final[tuple[tuple[type[Event], tuple[State, ...], State], ...]] = (
    (JobQueued, (State.NEW,), State.QUEUED),
    (JobLoading, (State.QUEUED,), State.LOADING),
    (JobWorking, (State.QUEUED, State.LOADING), State.WORKING),
    (JobRequeued, (State.LOADING, State.WORKING), State.QUEUED),
    (JobDone, (State.WORKING,), State.DONE),
    (JobFailed, (State.QUEUED, State.LOADING, State.WORKING), State.FAILED),
    (JobCancelled, (State.QUEUED, State.LOADING, State.WORKING), State.CANCELLED),
    (JobExpired, (State.DONE, State.FAILED, State.CANCELLED), State.EXPIRED),
)

MACHINE: Final = Machine(
    model=None,
    states=[state.value for state in State],
    initial=State.NEW.value,
    transitions=[
        {"trigger": event.type, "source": [state.value for state in sources], "dest": dest.value}
        for event, sources, dest in TRANSITIONS
    ],
    auto_transitions=False,  # otherwise `to_done()` would be a way past the table
)


def _ask(state: State, type_: str) -> State | None:
    """What the machine makes of an event in a state; None if it refuses."""
    probe = SimpleNamespace(state=state.value)
    try:
        MACHINE.events[type_].trigger(probe)
    except MachineError:
        return None
    return State(probe.state)


# The machine is asked once for every pair. An answer from it takes 7 µs, and an audit asks a million times.
_ANSWERS: Final = MappingProxyType(
    {
        (state, event.type): dest
        for state in State
        for event, _, _ in TRANSITIONS
        if (dest := _ask(state, event.type)) is not None
    }
)


def allows(state: State, event: type[Event] | Event) -> bool:
    """Whether the event may follow in this state."""
    return (state, event.type) in _ANSWERS


def advance(state: State, event: type[Event] | Event) -> State:
    """The state that the event leads to. Raises IllegalTransition."""
    try:
        return _ANSWERS[state, event.type]
    except KeyError:
        raise IllegalTransition(f"a job that is {state} cannot become so by {event.type}") from None


def diagram() -> str:
    """The table as a Mermaid state diagram, for the docs."""
    lines = ["stateDiagram-v2", "    [*] --> queued: job.queued"]
    for event, sources, dest in TRANSITIONS:
        lines += [f"    {source} --> {dest}: {event.type}" for source in sources if source is not State.NEW]
    return "\n".join([*lines, "    expired --> [*]"]) + "\n"
