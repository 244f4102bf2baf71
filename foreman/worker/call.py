"""One call to the target for a job, broken off when it shows no sign of life. Does not know what an answer means."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final

from foreman import __version__
from foreman.events.daemon import Stage, TargetStalled
from foreman.events.types import Source
from foreman.projections.job import Job
from foreman.target.client import Reply
from foreman.target.requests import Generation
from foreman.worker.bench import Bench
from foreman.worker.stall import Patience, Silence, Stalled, breaking

HEADERS: Final = {
    "content-type": "application/json",
    "accept": "application/x-ndjson",
    "user-agent": f"foreman/{__version__}",
}


@asynccontextmanager
async def called(
    bench: Bench, path: str, body: bytes, patience: Patience, headers: Mapping[str, str]
) -> AsyncIterator[tuple[Reply, Silence]]:
    """Send a load or a generation; whoever reads its answer tells the silence of each piece. Raises TargetError.

    Of that, Stalled is for a silence that lasted too long; the connection is closed by then.
    """
    wedge = bench.inventory.wedge
    silence = Silence(patience, bench.clock, on_sign=wedge.heard, signs=lambda: wedge.signs)
    async with breaking(silence), bench.target.generate(path, body, {**HEADERS, **headers}) as reply:
        silence.ended(begun=False)
        yield reply, silence


def patience_with(bench: Bench, job: Job, generation: Generation) -> Patience:
    """How much silence the job's answer may have: much more if the target does not show it while it is made."""
    is_streamed = generation.stream or job.source is Source.ASYNC
    return bench.patience if is_streamed and not generation.tools else bench.patience.for_the_unseen()


def stalled(job: Job, stall: Stalled, *, loading: bool) -> TargetStalled:
    """What is recorded of a call that stalled."""
    stage = Stage.LOADING if loading else Stage.ANSWERING if stall.begun else Stage.STARTING
    return TargetStalled(stage=stage, model=job.model, job_id=job.job_id, silent_s=stall.silent_s)
