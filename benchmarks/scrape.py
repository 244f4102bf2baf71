"""What a scrape of `/metrics` costs when the log is long and the models are many."""

from __future__ import annotations

import asyncio
import os
import time
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import aiohttp

from benchmarks.harness import Figure, fake_target, foreman, latencies, median, session
from foreman.clock import SystemClock
from foreman.commands.ledger import Ledger
from foreman.commands.schema import MIGRATIONS
from foreman.commands.types import FinishJob, StartWorking, Submission, SubmitJobs
from foreman.events.feed import Feed
from foreman.events.types import Endpoint, JobClass, JobQueued, Source
from foreman.projections import contents
from foreman.projections.contents import artifact
from foreman.projections.job import Metrics
from foreman.storage.database import Database

#: The log's length; BENCH_EVENTS sets another. Three events a job.
EVENTS = int(os.environ.get("BENCH_EVENTS", "1000000"))
#: Five times as many as have series of their own.
MODELS = 200
BATCH = 500
BODY = artifact(contents.REQUEST, contents.JSON, b'{"model":"a","prompt":"hello"}')
DONE = Metrics(prompt_tokens=20, generated_tokens=200, eval_duration=4_000_000_000, first_token_s=0.3, run_s=4.5)


async def scraping() -> list[Figure]:
    """A scrape, and a start, with the long log."""
    with TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as folder, fake_target() as target:
        database = Path(folder) / "foreman.db"
        rate = await _fill(database)
        with foreman(target, database) as daemon:
            async with session() as client:
                text = await _scrape(client, daemon.url)
                taken = await latencies(partial(_scrape, client, daemon.url), 200, warm=10)
            series = sum(not line.startswith("#") for line in text.splitlines())
            return [
                Figure(
                    name=f"scrape of /metrics with {EVENTS:,} events in the log",
                    value=median(taken) * 1e3,
                    unit="ms",
                    beside=f"p99 {taken[-len(taken) // 100] * 1e3:.2f} ms, {series} series, {len(text):,} bytes",
                    target="< 10 ms",
                ),
                Figure(
                    name=f"start with {EVENTS:,} events in the log",
                    value=daemon.ready_s,
                    unit="s",
                    beside=f"they were written at {rate:,.0f} events/s",
                    target="<= 2 s",
                ),
            ]


async def _scrape(client: aiohttp.ClientSession, url: str) -> str:
    async with client.get(f"{url}/metrics") as response:
        return await response.text()


async def _fill(path: Path) -> float:
    """A database with so many events, of jobs that were answered; events written a second."""
    database = Database(path, MIGRATIONS)
    await database.open()
    ledger = Ledger(database, Feed(), SystemClock(), max_queue=BATCH)
    await ledger.restore()
    running = asyncio.create_task(ledger.run())
    began = time.perf_counter()
    for first in range(0, EVENTS // 3, BATCH):
        jobs = [_job(first + number) for number in range(BATCH)]
        await ledger.execute(SubmitJobs(submissions=tuple(jobs)))
        for make in (StartWorking, partial(FinishJob, metrics=DONE)):
            await asyncio.gather(*(ledger.execute(make(job_id=job.job_id)) for job in jobs))
    took_s = time.perf_counter() - began
    written = ledger.feed.position
    ledger.close()
    await running
    await database.close()
    return written / took_s


def _job(number: int) -> Submission:
    queued = JobQueued(
        model=f"m{number % MODELS}",
        load_key=f"m{number % MODELS}",
        endpoint=Endpoint.GENERATE,
        source=Source.ASYNC,
        job_class=JobClass.BATCH,
        stream=True,
        request=BODY.ref,
        max_attempts=3,
    )
    return Submission(job_id=f"J{number:09}", queued=queued, body=BODY)


ALL = (scraping,)
