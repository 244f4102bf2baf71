"""A target played through with the scheduler itself: which job starts when, how often a model is loaded.

Owns a discrete clock around `Queue` and `choose`, for replays of a log and for made-up hours alike. Must not restate a
rule of the scheduler's: first come, first served is the same function with one load key for all.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Protocol

from foreman.clock import Micros
from foreman.events.types import JobClass
from foreman.projections.queue import Queue, Waiting
from foreman.scheduling.scheduler import Occupancy, Policy, Start, Turn, Wait, choose

NEVER: Final = Policy(max_wait_interactive_s=0, max_wait_batch_s=0)


@dataclass(frozen=True, slots=True)
class Run:
    """One attempt at a job: how long it keeps the target after its model was loaded, in microseconds."""

    length: int
    #: Until it may be tried once more; None = with this run the job is over.
    rest: int | None = None
    #: Its load breaks off after `length`, and nothing is loaded then.
    breaks_load: bool = False
    #: It has its model unloaded at its end.
    unloads: bool = False


@dataclass(frozen=True, slots=True)
class Arrival:
    """A job that comes, and what it will take."""

    at: Micros
    load_key: str
    job_class: JobClass
    #: None at all = it is over as soon as it is picked, without the target.
    runs: tuple[Run, ...]
    #: When it goes, served or not; None = it stays until it is served.
    leaves: Micros | None = None


@dataclass(frozen=True, slots=True)
class Discipline:
    """By which rules the target is served."""

    name: str
    policy: Policy
    #: The policy of each life of the daemon's, where they differ.
    lives: tuple[Policy, ...] = ()
    #: False = all models share one load key, which makes the scheduler serve them as they come.
    by_model: bool = True
    by_class: bool = True


class Watcher(Protocol):
    """Follows a simulation; `looks` comes at each moment, when all of it has happened but the starts."""

    def arrived(self, number: int, now: Micros) -> None:
        """A job has come."""

    def picked(self, number: int, now: Micros, load: int, length: int) -> None:
        """A job that was picked begins: so long its model takes to be loaded, then so long it runs."""

    def loaded(self, number: int, now: Micros) -> None:
        """Its model was loaded."""

    def ended(self, number: int, now: Micros) -> None:
        """A run is over, or was broken off, perhaps before it began."""

    def looks(self, now: Micros) -> None:
        """Everything is as the next choice will find it."""


class Happening(IntEnum):
    """What the clock stops at, in the order in which it happens at one moment."""

    ARRIVES = 0
    ENDS = 1
    LOADED = 2
    LEAVES = 3
    SHUTS = 4
    OPENS = 5
    #: The daemon's next life, of that number: what runs in this one is broken off.
    RESTARTS = 6
    HOLDS = 7
    BEGINS = 8
    LOOKS = 9


#: What a job was on its way to, and is not if it was broken off.
STEPS: Final = (Happening.BEGINS, Happening.ENDS, Happening.LOADED)


class Simulation:
    """A target that holds one model and answers up to `parallel` jobs at a time, driven by the scheduler."""

    def __init__(
        self,
        arrivals: Sequence[Arrival],
        discipline: Discipline,
        load_time: Callable[[int], int],
        watcher: Watcher,
        latency: Callable[[int], int] = lambda number: 0,
    ) -> None:
        """`load_time` says how long a job's model takes to be loaded, `latency` how long after its choice it begins."""
        self.arrivals = arrivals
        self.discipline = discipline
        self.policy = discipline.policy
        #: What the scheduler takes a load for.
        self.load_s = 0.0
        self.loads = 0
        self.queue = Queue()
        self.turn = Turn()
        #: As the scheduler knows it, and the model that is loaded.
        self.resident: str | None = None
        self.holds: str | None = None
        #: The jobs that run or are loading.
        self.running: dict[int, Happening] = {}
        self._load_time, self._watcher, self._latency = load_time, watcher, latency
        self._shut = 0
        #: Which of its runs each job is at, when each job's next step comes, and who has left.
        self._runs: dict[int, int] = {}
        self._steps: dict[int, int] = {}
        self._left: set[int] = set()
        self._heap: list[tuple[int, Happening, int, str | None]] = []
        for number, arrival in enumerate(arrivals):
            self.plan(arrival.at, Happening.ARRIVES, number)

    def plan(self, at: int, what: Happening, number: int = 0, load_key: str | None = None) -> None:
        """Let something happen."""
        heapq.heappush(self._heap, (at, what, number, load_key))

    def run_of(self, number: int) -> int:
        """Which of its runs the job is at, the first being 0; past the last when it is over."""
        return self._runs.get(number, 0)

    def run(self) -> None:
        """Until nothing more happens."""
        while self._heap:
            now = Micros(self._heap[0][0])
            while self._heap and self._heap[0][0] == now:
                _, what, number, load_key = heapq.heappop(self._heap)
                self._happen(what, number, load_key, now)
            self._watcher.looks(now)
            self._start_all(now)

    def _happen(self, what: Happening, number: int, load_key: str | None, now: Micros) -> None:
        if what in STEPS and self._steps.get(number) != now:
            return  # it was broken off since
        match what:
            case Happening.ARRIVES:
                self._arrive(number, now)
            case Happening.BEGINS:
                self._begin(number, now)
            case Happening.ENDS:
                self._end(number, now)
            case Happening.LOADED:
                self._loaded(number, now)
            case Happening.LEAVES:
                self._leave(number, now)
            case Happening.SHUTS | Happening.OPENS:
                self._shut += 1 if what is Happening.SHUTS else -1
            case Happening.RESTARTS:
                self._restart(number, now)
            case Happening.HOLDS if not self.running:
                self._hold(load_key)

    def _hold(self, load_key: str | None) -> None:
        self.holds = load_key
        if self.discipline.by_model:
            self.resident = load_key

    def _arrive(self, number: int, now: Micros) -> None:
        arrival = self.arrivals[number]
        self._line_up(number, None)
        if arrival.leaves is not None:
            self.plan(max(now, arrival.leaves), Happening.LEAVES, number)
        self._watcher.arrived(number, now)

    def _line_up(self, number: int, not_before: Micros | None) -> None:
        arrival = self.arrivals[number]
        self.queue.add(
            Waiting(
                job_id=str(number),
                load_key=arrival.load_key if self.discipline.by_model else "any",
                job_class=arrival.job_class if self.discipline.by_class else JobClass.BATCH,
                order=number + 1,
                queued_at=arrival.at,
                not_before=not_before,
            )
        )

    def _start_all(self, now: Micros) -> None:
        while not self._shut and Happening.LOADED not in self.running.values():
            self.queue.settle(now)
            running_key = self.resident if self.running else None
            occupancy = Occupancy(
                resident=self.resident, running=len(self.running), running_key=running_key, load_s=self.load_s
            )
            choice = choose(self.queue, policy=self.policy, now=now, turn=self.turn, occupancy=occupancy)
            if isinstance(choice, Wait):
                if choice.until is not None:
                    self.plan(max(choice.until, now + 1), Happening.LOOKS)
                return
            if self.running and self.arrivals[int(choice.job_id)].load_key != self.holds:
                return  # those who come first are of another model: never two at once
            self._start(choice, now)

    def _start(self, start: Start, now: Micros) -> None:
        number = int(start.job_id)
        self.queue.remove(start.job_id)
        self.turn = start.turn
        # While a model is about to be loaded nothing else starts.
        swaps = self.arrivals[number].load_key != self.holds and bool(self.arrivals[number].runs)
        self.running[number] = Happening.LOADED if swaps else Happening.ENDS
        if not self.discipline.by_model:
            self.resident = start.load_key
        late = self._latency(number)
        if late:
            self._step(now + late, Happening.BEGINS, number)
        else:
            self._begin(number, now)

    def _step(self, at: int, what: Happening, number: int) -> None:
        self._steps[number] = at
        self.plan(at, what, number)

    def _begin(self, number: int, now: Micros) -> None:
        arrival = self.arrivals[number]
        if not arrival.runs:
            self._over(number, now)
            return
        run = arrival.runs[self.run_of(number)]
        if self.running[number] is Happening.ENDS:
            self._watcher.picked(number, now, 0, run.length)
            self._work(number, now)
            return
        load = run.length if run.breaks_load else self._load_time(number)
        self._watcher.picked(number, now, load, 0 if run.breaks_load else run.length)
        self._hold(arrival.load_key)
        self._step(now + load, Happening.ENDS if run.breaks_load else Happening.LOADED, number)

    def _loaded(self, number: int, now: Micros) -> None:
        self.loads += 1
        self.turn = self.turn.loaded(now)
        self._watcher.loaded(number, now)
        if number in self._left:
            self._over(number, now)
        else:
            self._work(number, now)

    def _work(self, number: int, now: Micros) -> None:
        self.running[number] = Happening.ENDS
        self._step(now + self.arrivals[number].runs[self.run_of(number)].length, Happening.ENDS, number)

    def _end(self, number: int, now: Micros) -> None:
        run = self.arrivals[number].runs[self.run_of(number)]
        self._runs[number] = self.run_of(number) + 1
        self._break_off(number, now)
        if run.unloads:
            self._hold(None)
        if run.rest is not None and number not in self._left:
            self._line_up(number, Micros(now + run.rest) if run.rest else None)

    def _break_off(self, number: int, now: Micros) -> None:
        if self.running[number] is Happening.LOADED:
            self._hold(None)
        self._over(number, now)

    def _over(self, number: int, now: Micros) -> None:
        del self.running[number]
        self._steps.pop(number, None)
        self._watcher.ended(number, now)

    def _leave(self, number: int, now: Micros) -> None:
        self._left.add(number)
        self.queue.remove(str(number))
        if self.running.get(number) is Happening.ENDS:
            self._over(number, now)
        for other, state in list(self.running.items()):
            unwanted = other in self._left and not self.queue.count(self.arrivals[other].load_key)
            if state is Happening.LOADED and unwanted:  # as the worker does; a load that others wait for goes on
                self._break_off(other, now)

    def _restart(self, life: int, now: Micros) -> None:
        self.turn = Turn()
        if self.discipline.lives:
            self.policy = self.discipline.lives[life]
        for number in list(self.running):
            self._break_off(number, now)
            if number not in self._left:
                self._line_up(number, None)
