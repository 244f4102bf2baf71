"""Whatever is commanded and wherever it crashes: what is derived from the log equals the log's fold.

The jobs are started as the real scheduler chooses them, up to four at a time, on a real database.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from foreman.clock import Micros
from foreman.commands.interruption import after_interruption
from foreman.commands.ledger import Outcome
from foreman.commands.types import (
    CancelJob,
    Command,
    ExpireJob,
    FailJob,
    FinishJob,
    Note,
    RequeueJob,
    StartLoading,
    StartWorking,
    SubmitJobs,
)
from foreman.errors import CommitUnknown, ForemanError
from foreman.events.daemon import DaemonStarted
from foreman.events.types import CancelledBy, JobClass, JobLoading, JobWorking, Recorded, RequeueReason, Source
from foreman.fsm.job import State
from foreman.projections.contents import artifact
from foreman.projections.job import Metrics
from foreman.projections.queue import Waiting
from foreman.scheduling.scheduler import Occupancy, Policy, Start, Turn, choose
from tests.core import SELECTIVE, WEBHOOK, Core, HandClock, audit, new_id, open_core, submit
from tests.rebuilding import assert_rebuilds

POLICY = Policy(max_wait_interactive_s=15, max_wait_batch_s=60, swap_share=0.3, parallel=4)
STARTED = DaemonStarted(foreman_version="1", sqlite_version="3", waiting=0, requeued=0, cancelled=0)
SECOND = 1_000_000

MODELS = st.sampled_from("abc")
KEYS = st.sampled_from([None, None, None, "k1", "k2"])
REASONS = st.sampled_from(RequeueReason)
PICKS = st.integers(0, 10**6)


class CoreMachine(RuleBasedStateMachine):
    """A core, what it has promised, and a worker that follows the scheduler."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory()
        self.clock = HandClock()
        self.accepted: set[str] = set()
        self.refused: set[str] = set()
        self.unsure: list[SubmitJobs] = []
        self.resident: str | None = None
        self.turn = Turn()
        self.core: Core

    @initialize()
    def open(self) -> None:
        self.runner.run(self._open())

    async def _open(self) -> None:
        """Open the file and put right what the last end left in the middle, as the daemon does."""
        self.core = await open_core(Path(self.folder.name) / "foreman.db", self.clock, max_queue=30)
        self.started: Counter[str] = Counter()
        self.core.ledger.feed.listeners.append(self._heard)
        for command in self.unsure:
            self._learn_fate(command)
        self.unsure.clear()
        found = [after_interruption(job, CancelledBy.RESTART) for job in self.core.unfinished]
        await self.core.do(*(command for command in found if command is not None), Note(event=STARTED))
        assert not self.core.ledger.work.running

    def _learn_fate(self, command: SubmitJobs) -> None:
        """Nobody was told what became of it: it is there whole or not at all."""
        ids = {item.job_id for item in command.submissions}
        there = ids & {job.job_id for job in self.core.unfinished}
        assert there in (set(), ids)
        self.accepted |= there

    def _heard(self, item: Recorded) -> None:
        """No job is begun a second time unless it was put back in between."""
        if isinstance(item.event, JobLoading | JobWorking):
            before = self.core.ledger.work.queue.get(item.stream)
            assert before is None
        if item.event.type == "job.requeued":
            self.started[item.stream] = 0
        elif item.event.type == "job.loading" or (isinstance(item.event, JobWorking) and not item.event.swapped):
            self.started[item.stream] += 1
        assert self.started[item.stream] <= 1

    def do(self, *commands: Command) -> list[Outcome | BaseException]:
        """Hand the commands in at once; every caller gets an outcome or a refusal that has a name."""
        results = self.runner.run(self._do(commands))
        assert all(isinstance(result, Outcome | ForemanError) for result in results), results
        assert not any(isinstance(result, CommitUnknown) for result in results)
        return results

    async def _do(self, commands: tuple[Command, ...]) -> list[Outcome | BaseException]:
        results = await self.core.do(*commands)
        self._take(commands, results)
        return results

    def _take(self, commands: tuple[Command, ...], results: list[Outcome | BaseException]) -> None:
        for command, result in zip(commands, results, strict=True):
            if isinstance(command, SubmitJobs) and not isinstance(result, CommitUnknown):
                jobs = {job.job_id for job in result.jobs} if isinstance(result, Outcome) else set()
                self.accepted |= jobs
                self.refused |= {item.job_id for item in command.submissions} - jobs

    def pick(self, states: set[State], number: int) -> str | None:
        """One of the jobs in these states; None if there is none."""
        work = self.core.ledger.work
        waiting = [entry.job_id for entry in work.queue]
        active = {*waiting, *work.running}
        ids = []
        if State.QUEUED in states:
            ids += waiting
        if State.WORKING in states:
            ids += work.running
        if State.DONE in states:
            ids += sorted(self.accepted - active)
        return ids[number % len(ids)] if ids else None

    @rule(
        count=st.integers(1, 4),
        model=MODELS,
        key=KEYS,
        fingerprint=st.sampled_from("fg"),
        job_class=st.sampled_from(JobClass),
        source=st.sampled_from(Source),
        webhook=st.sampled_from([None, WEBHOOK, SELECTIVE]),
    )
    def submit_jobs(self, count, model, key, fingerprint, job_class, source, webhook) -> None:
        ids = [new_id() for _ in range(count)]
        members = {"model": model, "load_key": model, "job_class": job_class, "source": source, "webhook": webhook}
        self.do(submit(*ids, key=key, fingerprint=fingerprint, **members))

    @rule(model=MODELS, number=PICKS)
    def burst(self, model, number) -> None:
        """Commands about the same jobs, some of which cannot be, all in one batch."""
        job_id, known = new_id(), self.pick({State.QUEUED, State.DONE}, number) or "nobody"
        self.do(
            submit(job_id, model=model, load_key=model),
            CancelJob(job_id=known, by=CancelledBy.API),
            FailJob(job_id=known, error="x", code="y"),
            FinishJob(job_id=job_id, metrics=Metrics()),
            CancelJob(job_id=known, by=CancelledBy.API),
            submit(key="k1", fingerprint="f"),
            submit(key="k1", fingerprint="f"),
        )

    @rule(seconds=st.sampled_from([0, 1, 20, 100, -5]))
    def time_passes(self, seconds) -> None:
        self.clock.at += seconds * SECOND

    @rule()
    def start_what_may_start(self) -> None:
        """Follow the scheduler until it says to wait, as the worker does; all starts go in together."""
        queue, running = self.core.ledger.work.queue, self.core.ledger.work.running
        queue.settle(self.clock.now())
        claimed: dict[str, Waiting] = {}
        commands: list[Command] = []
        while True:
            busy = [*running.values(), *claimed.values()]
            occupancy = Occupancy(
                resident=self.resident,
                running=len(busy),
                running_key=busy[0].load_key if busy else None,
                claimed=claimed.keys(),
                load_s=2.0,
            )
            choice = choose(queue, policy=POLICY, now=self.clock.now(), turn=self.turn, occupancy=occupancy)
            if not isinstance(choice, Start):
                break
            self._check_is_oldest(choice, claimed)
            self.turn = choice.turn
            self.resident = choice.load_key
            claimed[choice.job_id] = queue.get(choice.job_id)
            if choice.swaps:
                commands.append(StartLoading(job_id=choice.job_id, evicts=None))
            commands.append(StartWorking(job_id=choice.job_id, swapped=choice.swaps))
        results = self.do(*commands)
        assert all(isinstance(result, Outcome) for result in results), results

    def _check_is_oldest(self, choice: Start, claimed: dict[str, Waiting]) -> None:
        """Per load key and class the oldest goes first, found by looking at every job."""
        queue = self.core.ledger.work.queue
        chosen = queue.get(choice.job_id)
        rivals = [
            entry
            for entry in queue
            if (entry.load_key, entry.job_class, entry.not_before) == (chosen.load_key, chosen.job_class, None)
            and entry.job_id not in claimed
        ]
        assert min(rivals, key=lambda entry: entry.order) is chosen

    @rule(number=PICKS, answer=st.binary(max_size=40))
    def answer_comes(self, number, answer) -> None:
        if job_id := self.pick({State.WORKING}, number):
            kept = (artifact("completion", "application/json", answer), artifact("stream", "x", answer * 3))
            self.do(FinishJob(job_id=job_id, metrics=Metrics(run_s=1.0), artifacts=kept))

    @rule(number=PICKS)
    def target_refuses(self, number) -> None:
        if job_id := self.pick({State.WORKING}, number):
            self.do(FailJob(job_id=job_id, error="no", code="target_refused", status=400))

    @rule(number=PICKS, reason=REASONS, pause_s=st.sampled_from([None, 1, 30]))
    def attempt_breaks(self, number, reason, pause_s) -> None:
        if job_id := self.pick({State.WORKING}, number):
            due = None if pause_s is None else Micros(self.clock.at + pause_s * SECOND)
            self.do(RequeueJob(job_id=job_id, reason=reason, error="it broke", not_before=due))

    @rule(number=PICKS)
    def cancel(self, number) -> None:
        if job_id := self.pick({State.QUEUED, State.WORKING, State.DONE}, number):
            self.do(CancelJob(job_id=job_id, by=CancelledBy.API))

    @rule(number=PICKS)
    def expire(self, number) -> None:
        if job_id := self.pick({State.DONE, State.QUEUED}, number):
            self.do(ExpireJob(job_id=job_id))

    @rule(count=st.integers(1, 3), steps=st.integers(0, 6))
    def crash(self, count, steps) -> None:
        """The process ends while commands are on their way, at any moment of theirs, and comes back."""
        commands = tuple(submit(new_id(), new_id(), load_key="a") for _ in range(count))
        self.runner.run(self._crash(commands, steps))
        self.turn = Turn()

    async def _crash(self, commands: tuple[SubmitJobs, ...], steps: int) -> None:
        callers = [asyncio.create_task(self.core.ledger.execute(command)) for command in commands]
        for _ in range(steps):
            await asyncio.sleep(0)
        await self.core.crash()
        results = await asyncio.gather(*callers, return_exceptions=True)
        self._take(commands, results)
        self.unsure = [
            command for command, result in zip(commands, results, strict=True) if isinstance(result, CommitUnknown)
        ]
        await self._open()

    @rule()
    @precondition(lambda self: self.core.ledger.feed.position < 400)
    def compare_with_the_log(self) -> None:
        self.runner.run(audit(self.core))

    @invariant()
    def one_load_key_runs_at_a_time(self) -> None:
        if hasattr(self, "core"):
            running = self.core.ledger.work.running.values()
            assert len({entry.load_key for entry in running}) <= 1
            assert len(running) <= POLICY.parallel

    def teardown(self) -> None:
        try:
            if hasattr(self, "core"):
                self.runner.run(self._end())
        finally:
            self.runner.close()
            self.folder.cleanup()

    async def _end(self) -> None:
        try:
            events = await audit(self.core)
            jobs = {item.stream for item in events if item.stream != "daemon"}
            assert self.accepted == jobs
            assert not self.refused & jobs
            assert_rebuilds(self.core.database.path)
        finally:
            self.core.ledger.close()
            await asyncio.wait({self.core.task})
            await self.core.database.close()


TestCore = CoreMachine.TestCase
#: Fewer than the profile's examples, since each of them is a whole history.
TestCore.settings = settings(deadline=None, max_examples=settings().max_examples // 2, stateful_step_count=40)
