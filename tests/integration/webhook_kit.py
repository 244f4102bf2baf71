"""For the tests of webhooks: a foreman with a target and a receiver, and what is on record of its deliveries."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from foreman.clock import Clock
from foreman.events.feed import OUTBOX
from foreman.projections.outbox import Lane
from tests.fakes.ollama import FakeOllama
from tests.fakes.receiver import Receiver
from tests.kit import PATIENCE_S, Running, running

MODELS = ("a", "b")
#: Jobs whose first transition alone is told, as long as their model is held while it loads.
ONLY_QUEUED = {"webhook_events": ["queued"]}


@asynccontextmanager
async def telling(
    path: Path, clock: Clock | None = None, **overrides: str
) -> AsyncIterator[tuple[FakeOllama, Receiver, Running]]:
    """A target, a receiver, and a foreman that tells it."""
    async with (
        FakeOllama(MODELS) as fake,
        Receiver() as receiver,
        running(path, fake.url, clock=clock, **overrides) as foreman,
    ):
        yield fake, receiver, foreman


async def on_record(foreman: Running, job_id: str) -> list[dict[str, Any]]:
    """The job's deliveries as the API shows them."""
    answer = await foreman.client.get(f"/jobs/{job_id}/deliveries")
    assert answer.status_code == 200, answer.text
    return answer.json()["deliveries"]


async def attempts(foreman: Running, job_id: str) -> list[dict[str, Any]]:
    """The attempts at the job's first delivery."""
    return (await on_record(foreman, job_id))[0]["attempts"]


def lane(foreman: Running, job_id: str) -> Lane:
    """The job's deliveries that have not ended."""
    return foreman.foreman.ledger.outbox.lanes[job_id]


async def until(foreman: Running, true: Callable[[], Any]) -> None:
    """Wait until this is true of the outbox, looking at each change of it."""
    with foreman.foreman.ledger.feed.watch(OUTBOX) as changed:
        async with asyncio.timeout(PATIENCE_S):
            while not true():
                changed.clear()
                await changed.wait()


async def settled(foreman: Running) -> None:
    """Wait until every delivery has ended."""
    await until(foreman, lambda: not foreman.foreman.ledger.outbox.pending)


async def failed(foreman: Running, job_id: str, times: int = 1) -> None:
    """Wait until it is on record that so many attempts at the job's first delivery have failed."""
    await until(foreman, lambda: not lane(foreman, job_id).taken and lane(foreman, job_id).head.failures == times)


async def look_again(foreman: Running) -> None:
    """Let the dispatcher see that its clock was moved: it has had its turns by the time this returns."""
    foreman.foreman.ledger.feed.wake(OUTBOX)
    for _ in range(10):
        await asyncio.sleep(0)
