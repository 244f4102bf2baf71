"""The worker: owns what runs. Asks the scheduler what is next and starts it; never more than one load key at once."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from msgspec.structs import replace

from foreman.clock import Micros, seconds_between
from foreman.commands.interruption import after_interruption
from foreman.errors import ForemanError, IllegalTransition
from foreman.events.types import (
    CancelledBy,
    JobCancelled,
    JobClass,
    JobDone,
    JobFailed,
    Recorded,
)
from foreman.fsm.job import State
from foreman.logs import get_logger
from foreman.projections.job import Job
from foreman.scheduling.scheduler import Occupancy, Policy, Start, Turn, Wait, choose
from foreman.target.names import identity_of
from foreman.worker import journal
from foreman.worker.attempt import FULL_DISK_PAUSE_S, Attempt, Phase
from foreman.worker.bench import Bench

log = get_logger(__name__)

#: Taken for the time of a load until one has been measured.
UNMEASURED_LOAD_S = 5.0


class Worker:
    """Starts jobs as the scheduler chooses them. `run()` is a task of the daemon's."""

    def __init__(self, bench: Bench, policy: Policy) -> None:
        self.bench = bench
        self.policy = policy
        self.turn = Turn()
        self._attempts: dict[str, tuple[Attempt, asyncio.Task[None]]] = {}
        self._wake = asyncio.Event()
        self._draining = False

    async def run(self) -> None:
        """Start what may start, wait for something to change, for ever."""
        self.bench.ledger.feed.listeners.append(self._heard)
        async with asyncio.TaskGroup() as group:
            while True:
                self._wake.clear()
                until = await self._start_all(group)
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._pause_s(until)):
                        await self._wake.wait()

    def poke(self) -> None:
        """Something that is no event has changed: look again."""
        self._wake.set()

    def wanted(self) -> list[str]:
        """The names of the models that jobs wait for."""
        queue = self.bench.ledger.work.queue
        keys = {head.load_key for job_class in JobClass for head in queue.heads(job_class)}
        names = (self.bench.inventory.name_of(identity_of(key)) for key in keys)
        return [name for name in names if name is not None]

    async def drain(self, within_s: float) -> None:
        """Start nothing more, give what runs some time, then put it back; returns when all of it is durable."""
        self._draining = True
        running = [task for _, task in self._attempts.values()]
        if running:
            log.info(
                "worker.draining",
                running=len(running),
                delay_s=within_s,
                hint="a second signal ends it now; what runs then starts anew at the next start",
            )
            await asyncio.wait(running, timeout=within_s)
        left = list(self._attempts.values())
        for _, task in left:
            task.cancel()
        await asyncio.gather(*(task for _, task in left), return_exceptions=True)
        for attempt, _ in left:
            await self._put_back(attempt.job)

    async def _put_back(self, job: Job) -> None:
        # Whatever it is now, it counts as running: its `job.working` may still stand before this in the ledger's line.
        command = after_interruption(replace(job, state=State.WORKING), CancelledBy.SHUTDOWN)
        assert command is not None
        try:
            await self.bench.ledger.execute(command)
        except IllegalTransition:
            return  # its outcome was there first, or it never began
        except ForemanError as error:
            # A full disk, say. The log still has it as running, so the next start puts it back.
            log.error("job.not_put_back", job_id=job.job_id, error=str(error))

    def _pause_s(self, until: Micros | None) -> float | None:
        # A whole-clock wait would miss a wall clock that is set back; looking again early costs nothing.
        return None if until is None else min(60.0, seconds_between(self.bench.clock.now(), until) + 0.001)

    async def _start_all(self, group: asyncio.TaskGroup) -> Micros | None:
        """Start all that may start now; when time alone may change the answer."""
        if any(attempt.waits_for_space for attempt, _ in self._attempts.values()):
            # Whatever else ran would only fill the memory with more answers that cannot be kept.
            return Micros(self.bench.clock.now() + round(FULL_DISK_PAUSE_S * 1_000_000))
        while not self._draining and self.bench.inventory.up and not self._is_loading():
            now = self.bench.clock.now()
            queue = self.bench.ledger.work.queue
            queue.settle(now)
            choice = choose(queue, policy=self.policy, now=now, turn=self.turn, occupancy=self._occupancy())
            if isinstance(choice, Wait):
                return choice.until
            await self._start(choice, group)
        return None

    def _occupancy(self) -> Occupancy:
        working = [attempt for attempt, _ in self._attempts.values() if attempt.phase is not Phase.RECORDING]
        return Occupancy(
            resident=self.bench.residency.key,
            running=len(working),
            running_key=working[0].job.load_key if working else None,
            claimed=self._attempts.keys(),
            load_s=self.bench.ledger.statistics.typical_load_s(UNMEASURED_LOAD_S),
        )

    def _is_loading(self) -> bool:
        return any(attempt.phase is Phase.LOADING for attempt, _ in self._attempts.values())

    async def _start(self, choice: Start, group: asyncio.TaskGroup) -> None:
        job = await self.bench.ledger.job(choice.job_id)
        if job is None or self._draining or job.job_id not in self.bench.ledger.work.queue:
            return  # cancelled, or everything is, while it was being looked up; then it had no part in the turn either
        self.turn = choice.turn
        attempt = Attempt(self.bench, job, swaps=choice.swaps, on_change=self._changed)
        task = group.create_task(attempt.run(), name=f"job {job.job_id}")
        self._attempts[job.job_id] = (attempt, task)
        task.add_done_callback(lambda _: self._ended(job.job_id))

    def _changed(self, phase: Phase) -> None:
        if phase is Phase.WORKING:
            self.turn = self.turn.loaded(self.bench.clock.now())
        self._wake.set()

    def _ended(self, job_id: str) -> None:
        self._attempts.pop(job_id, None)
        self._wake.set()

    def _heard(self, recorded: Recorded) -> None:
        """Follow the log: close the tails of jobs that are over, stop the run of one that was cancelled."""
        event, job_id = recorded.event, recorded.stream
        journal.say(recorded, self.bench.ledger.at_hand(job_id))
        if isinstance(event, JobDone | JobFailed | JobCancelled):
            self.bench.tails.close(job_id)
        if isinstance(event, JobCancelled):
            self._stop(job_id)
        self._stop_unwanted_loads()
        self._wake.set()

    def _stop(self, job_id: str) -> None:
        attempt, task = self._attempts.get(job_id, (None, None))
        if attempt is not None and task is not None and attempt.phase is Phase.WORKING:
            task.cancel()

    def _stop_unwanted_loads(self) -> None:
        """A load whose job is gone goes on as long as somebody else waits for that model; Ollama would start over."""
        work = self.bench.ledger.work
        for job_id, (attempt, task) in self._attempts.items():
            gone = not work.has(job_id)
            if attempt.phase is Phase.LOADING and gone and not work.queue.count(attempt.job.load_key):
                task.cancel()
