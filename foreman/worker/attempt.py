"""One run of one job: load its model if need be, send its request, hand its answer on, record how it ended.

Chooses nothing and retries nothing: an attempt that breaks goes back to the ledger as a command.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import StrEnum
from http import HTTPStatus
from typing import Final

from foreman.clock import Micros
from foreman.commands.types import Command, FailJob, FinishJob, Note, RequeueJob, StartLoading, StartWorking
from foreman.errors import (
    AnswerTooLarge,
    ForemanError,
    IllegalTransition,
    RequestInvalid,
    StorageFull,
    TargetBroke,
    TargetRefused,
    TargetUnreachable,
)
from foreman.events.daemon import ModelSwapped
from foreman.events.types import RequeueReason, Source
from foreman.logs import get_logger
from foreman.projections import contents
from foreman.projections.contents import artifact
from foreman.projections.job import Job
from foreman.tails import Ending, Tail
from foreman.target.client import refused
from foreman.target.inventory import POLL_TIMEOUT_S
from foreman.target.names import identity_of
from foreman.target.requests import Generation, load_body, read_generation, work_body
from foreman.target.wedge import Question
from foreman.worker.assemble import Completion, assemble
from foreman.worker.bench import Bench, backoff_s
from foreman.worker.call import called, patience_with, stalled
from foreman.worker.stall import Stalled

log = get_logger(__name__)

#: Runs of a job that may cost no attempt; a load that takes the target down with it must not be tried for ever.
MOST_FREE_RUNS: Final = 10
#: Of those, so many may follow each other without a pause.
FREE_OF_PAUSE: Final = 2
#: Bytes. A target that never stops must not fill the memory; SQLite would not take four times this anyway.
LONGEST_ANSWER: Final = 256 * 1024 * 1024
#: How often recording an outcome is tried again while the disk is full.
FULL_DISK_PAUSE_S: Final = 1.0


class Phase(StrEnum):
    """Where a run is; the worker may interfere with the first two only."""

    LOADING = "loading"
    WORKING = "working"
    RECORDING = "recording"


class Attempt:
    """One run. `run()` is a task of the worker's, which may cancel it before `RECORDING`."""

    def __init__(self, bench: Bench, job: Job, *, swaps: bool, on_change: Callable[[Phase], None]) -> None:
        """`on_change` is called at each change of phase, with the new one."""
        self.bench = bench
        self.job = job
        self.swaps = swaps
        self.phase = Phase.LOADING if swaps else Phase.WORKING
        self.load_s: float | None = None
        #: The disk is full: what is to be recorded is kept in memory until it is not.
        self.waits_for_space = False
        self._on_change = on_change
        self._tail: Tail = bench.tails.open(job.job_id)

    async def run(self) -> None:
        """Do all of it; returns when the outcome is durable or the job is no longer ours to run."""
        request = self._tail.request or await self._kept_request()
        if request is None and self.job.job_id not in self.bench.ledger.work.queue:
            return  # it was cancelled and expired before it could start
        self._tail.restart(self.job.run + 1)
        try:
            if request is None:
                # As in a database that was made of the log alone. Left waiting, it would be the next one for ever.
                await self._record(FailJob(job_id=self.job.job_id, error="its request is not there", code="internal"))
                return
            outcome = await self._outcome(request)
            self._enter(Phase.RECORDING)
            await self._record(outcome)
        except IllegalTransition:
            return  # cancelled in the meantime: the log knows, and nothing of ours is to be added

    async def _outcome(self, request: bytes) -> Command:
        """What came of the run. One odd request or answer fails its own job and does not end the daemon."""
        try:
            return await self._attempt(read_generation(request))
        except ForemanError as error:
            if not isinstance(error, RequestInvalid):
                raise
            return self._unhandled(error)
        except Exception as error:  # noqa: BLE001  (the edge of one job; what it was is in the log with its traceback)
            return self._unhandled(error)

    def _unhandled(self, error: Exception) -> Command:
        log.error("job.unhandled", job_id=self.job.job_id, exc_info=error)
        self._tail.end(Ending.BROKEN)
        text = f"foreman could not handle this job: {type(error).__name__}"
        return FailJob(job_id=self.job.job_id, error=text, code="internal")

    async def _kept_request(self) -> bytes | None:
        found = await contents.find(self.bench.read, self.job.job_id, contents.REQUEST)
        return None if found is None else found.data

    def _enter(self, phase: Phase) -> None:
        self.phase = phase
        self._on_change(phase)

    async def _attempt(self, generation: Generation) -> Command:
        """Load and work; what came of it, as a command."""
        try:
            if self.swaps:
                await self._load(generation)
                self._enter(Phase.WORKING)
            return await self._work(generation)
        except TargetUnreachable as error:
            self._tail.end(Ending.BROKEN)
            await self.bench.inventory.report_unreachable(str(error))
            return self._unreached(str(error))
        except AnswerTooLarge as error:
            self._tail.end(Ending.BROKEN)
            return FailJob(job_id=self.job.job_id, error=str(error), code=error.code)
        except TargetBroke as error:
            self._tail.end(Ending.BROKEN)
            return await (self._stalled(error, generation) if isinstance(error, Stalled) else self._broke(str(error)))
        except TargetRefused as error:
            if error.status == HTTPStatus.SERVICE_UNAVAILABLE:
                return self._spent(str(error))
            self._tail.begin(error.status, error.content_type)
            self._tail.write(error.body)
            self._tail.end(Ending.COMPLETE)
            return FailJob(job_id=self.job.job_id, error=str(error), code=error.code, status=error.status)

    async def _broke(self, error: str) -> Command:
        """The target, or the way to it, went away in the middle."""
        inventory, job = self.bench.inventory, self.job
        inventory.poll_soon()
        if self.phase is Phase.LOADING and job.run - job.attempt < MOST_FREE_RUNS:
            # The job's own request has not been sent, so a target that went away is not held against it.
            await inventory.catch_up(POLL_TIMEOUT_S)
            if not inventory.up:
                return self._unreached(error)
        return self._spent(error)

    async def _stalled(self, stall: Stalled, generation: Generation) -> Command:
        """The target took the call and let it lie. The attempt counts: it may be this very job that it cannot take."""
        await self._record(Note(event=stalled(self.job, stall, loading=self.phase is Phase.LOADING)))
        await self.bench.inventory.report_stalled(Question.like(self.job.model, generation.options), str(stall))
        return self._spent(str(stall))

    def _unreached(self, error: str) -> Command:
        """It costs nothing; but polls may get through where generations do not, and that must not become a hot loop."""
        free_runs = self.job.run - self.job.attempt
        pause_s = backoff_s(free_runs) if free_runs > FREE_OF_PAUSE else 0.0
        return put_back(self.job, RequeueReason.UNREACHABLE, error, self.bench.clock.now(), pause_s)

    def _spent(self, error: str) -> Command:
        """The attempt counts: another one after a pause, if there is one left."""
        job = self.job
        if self._tail.run.chunks and job.source is Source.SYNC and job.stream:
            # What the caller has seen cannot be taken back: a second answer would be glued to half of the first.
            return FailJob(job_id=job.job_id, error=error, code="target_broke")
        return put_back(job, RequeueReason.CONNECTION, error, self.bench.clock.now(), backoff_s(job.attempt + 1))

    async def _load(self, generation: Generation) -> None:
        """Load the model with an empty request; what the target has against it, it shall say to the real one."""
        bench, job = self.bench, self.job
        resident = bench.residency.key
        evicts = None if resident is None else bench.inventory.name_of(identity_of(resident)) or resident
        await self._record(StartLoading(job_id=job.job_id, evicts=evicts))
        began = bench.clock.monotonic()
        body = load_body(generation, bench.keep_alive)
        try:
            async with called(bench, job.endpoint.path, body, bench.patience, {}) as (reply, _):
                answer = await reply.read()
        except (TargetBroke, asyncio.CancelledError):
            # Ollama evicts before it loads, and gives a load up when its caller leaves.
            bench.residency.lost()
            raise
        if reply.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            bench.residency.lost()
            raise refused(reply.status, reply.content_type, answer)
        if reply.status == HTTPStatus.OK:
            self.load_s = bench.clock.monotonic() - began
            bench.residency.loaded(job.load_key)
            bench.inventory.poll_soon()
            event = ModelSwapped(
                model=job.model, load_key=job.load_key, load_s=self.load_s, evicted=evicts, job_id=job.job_id
            )
            await self._record(Note(event=event))
        if job.job_id not in bench.ledger.work.running:
            raise IllegalTransition("the job was cancelled while its model was being loaded")

    async def _work(self, generation: Generation) -> Command:
        """Send the request while `job.working` is being committed: a crash then only means that it is still queued."""
        start = StartWorking(job_id=self.job.job_id, swapped=self.load_s is not None, load_s=self.load_s)
        recorded = asyncio.create_task(self._record(start), name=f"record {self.job.job_id} as working")
        sent = asyncio.create_task(self._converse(generation), name=f"send {self.job.job_id}")
        try:
            await asyncio.wait({recorded, sent}, return_when=asyncio.FIRST_EXCEPTION)
            # First the log: a job that was cancelled before it could start shows there, whatever the target said.
            await recorded
            return await sent
        finally:
            for task in (sent, recorded):
                task.cancel()
            await asyncio.gather(sent, recorded, return_exceptions=True)

    async def _converse(self, generation: Generation) -> Command:
        """Send the request and pass the answer on as it comes. Raises TargetError."""
        bench, job = self.bench, self.job
        # A blocking call goes up as its caller wrote it; a job is always streamed, so that it can be followed.
        body = work_body(generation, bench.keep_alive, stream=None if job.source is Source.SYNC else True)
        patience = patience_with(bench, job, generation)
        began = bench.clock.monotonic()
        first_token_s: float | None = None
        size = 0
        async with called(bench, job.endpoint.path, body, patience, self._tail.headers) as (reply, silence):
            if reply.status != HTTPStatus.OK:
                raise refused(reply.status, reply.content_type, await reply.read())
            self._tail.begin(reply.status, reply.content_type)
            try:
                async for chunk in reply.chunks():
                    silence.ended()
                    if first_token_s is None:
                        first_token_s = bench.clock.monotonic() - began
                    size += len(chunk)
                    if size > LONGEST_ANSWER:
                        raise AnswerTooLarge(f"the target's answer is longer than {LONGEST_ANSWER:,} bytes")
                    self._tail.write(chunk)
                bench.residency.loaded(job.load_key)
            finally:
                if generation.releases(bench.keep_alive):
                    bench.residency.lost()
                    bench.inventory.poll_soon()
        outcome = finished(job, b"".join(self._tail.run.chunks), first_token_s, bench.clock.monotonic() - began)
        self._tail.end(Ending.COMPLETE)
        return outcome

    async def _record(self, command: Command) -> None:
        """Have a command carried out, waiting for space on a full disk: what the target said must not be lost."""
        while True:
            try:
                await self.bench.ledger.execute(command)
            except StorageFull as error:
                self.waits_for_space = True
                log.error("disk.full", job_id=self.job.job_id, error=str(error), hint=error.hint)
                await asyncio.sleep(FULL_DISK_PAUSE_S)
            else:
                self.waits_for_space = False
                return


def put_back(job: Job, reason: RequeueReason, error: str, now: Micros, pause_s: float) -> RequeueJob:
    """The job goes back to its place, and is not started again before the pause is over."""
    not_before = Micros(now + round(pause_s * 1_000_000)) if pause_s else None
    return RequeueJob(job_id=job.job_id, reason=reason, error=error, not_before=not_before)


def finished(job: Job, answer: bytes, first_token_s: float | None, run_s: float) -> Command:
    """What a complete answer amounts to. Raises TargetBroke if it is none and may be asked for again."""
    try:
        completion = assemble(answer)
    except TargetBroke as error:
        if job.source is Source.ASYNC:
            raise
        # A blocking caller gets what the target said, as it would without foreman.
        completion = Completion(body=answer, last={}, error=str(error))
    if completion.error is not None:
        return FailJob(job_id=job.job_id, error=completion.error, code="target_error")
    artifacts = [artifact(contents.COMPLETION, contents.JSON, completion.body)]
    if job.stream or job.source is Source.ASYNC:
        artifacts.append(artifact(contents.STREAM, contents.NDJSON, answer))
    return FinishJob(job_id=job.job_id, metrics=completion.metrics(first_token_s, run_s), artifacts=tuple(artifacts))
