"""What a type checker makes of every call of both clients. Never run: `tests/docs/test_examples.py` has it checked."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from typing import assert_type

from foreman.client import (
    AsyncClient,
    Client,
    Completion,
    Delivery,
    Event,
    Head,
    Health,
    Job,
    Model,
    NewRun,
    Place,
    Queue,
    ResidentModel,
    Retry,
    Statistics,
    StreamLine,
    Webhook,
)
from foreman.client.testing import ReceivedWebhook, WebhookReceiver


def blocking(client: Client) -> None:
    """Each method of `Client`."""
    job = client.submit(model="a", prompt="x", options={"seed": 1}, webhook=Webhook(url="http://h"), format="json")
    assert_type(job, Job)
    assert_type(job.place, Place | None)
    assert_type(job.raise_for_state(), Job)
    assert_type(client.submit_many([{"model": "a"}], chunk=10), Generator[Job, None, None])
    assert_type(client.get(job.job_id), Job)
    assert_type(client.wait(job.job_id, timeout=1), Job)
    assert_type(client.completion(job.job_id), Completion)
    assert_type(client.artifact(job.job_id, "stream"), bytes)
    assert_type(client.stream(job.job_id), Generator[StreamLine | NewRun, None, None])
    assert_type(client.cancel(job.job_id), Job)
    assert_type(client.retry(job.job_id, idempotency_key="k"), Job)
    assert_type(client.list_jobs(state=["done", "failed"], job_class="batch"), Generator[Job, None, None])
    assert_type(client.job_events(job.job_id), list[Event])
    assert_type(client.events(after=0, follow=False), Generator[Event, None, None])
    assert_type(client.deliveries(state="dead"), Generator[Delivery, None, None])
    assert_type(client.redeliver(job.job_id), int)
    assert_type(client.redeliver_all(), int)
    assert_type(client.queue(limit=3), Queue)
    assert_type(client.ps(), list[ResidentModel])
    assert_type(client.models(), list[Model])
    assert_type(client.health(), Health)
    assert_type(client.statistics("7d"), Statistics)
    assert_type(client.audit_head(), Head)
    client.close()


async def awaited(client: AsyncClient) -> None:
    """Each method of `AsyncClient`."""
    job = await client.submit(model="a", messages=[{"role": "user", "content": "x"}], keep_alive=-1)
    assert_type(job, Job)
    assert_type(client.submit_many([{"model": "a"}]), AsyncGenerator[Job, None])
    assert_type(await client.get(job.job_id), Job)
    assert_type(await client.wait(job.job_id), Job)
    assert_type(await client.completion(job.job_id, timeout=1), Completion)
    assert_type(await client.artifact(job.job_id), bytes)
    assert_type(client.stream(job.job_id), AsyncGenerator[StreamLine | NewRun, None])
    assert_type(await client.cancel(job.job_id), Job)
    assert_type(await client.retry(job.job_id), Job)
    assert_type(client.list_jobs(state="done"), AsyncGenerator[Job, None])
    assert_type(await client.job_events(job.job_id), list[Event])
    assert_type(client.events(types="job.done"), AsyncGenerator[Event, None])
    assert_type(client.deliveries(job.job_id), AsyncGenerator[Delivery, None])
    assert_type(await client.redeliver(job.job_id, state="dead"), int)
    assert_type(await client.redeliver_all(receiver="h:80"), int)
    assert_type(await client.queue(), Queue)
    assert_type(await client.ps(), list[ResidentModel])
    assert_type(await client.models(), list[Model])
    assert_type(await client.health(), Health)
    assert_type(await client.statistics(), Statistics)
    assert_type(await client.audit_head(), Head)
    await client.close()


async def received(receiver: WebhookReceiver) -> None:
    """The receiver for tests."""
    assert_type(receiver.wait_for("J", "done"), ReceivedWebhook)
    assert_type(await receiver.arrival("J", "done"), ReceivedWebhook)


def made() -> tuple[Client, AsyncClient]:
    """Both, and what they are made with."""
    return Client("http://h", "t", timeout=5, retry=Retry(within_s=0)), AsyncClient()


def wrong(client: Client) -> None:
    """What a type checker refuses; were one of these allowed, its comment would be the error."""
    client.submit(prompt="x")  # type: ignore[call-arg]
    client.submit("a", "x")  # type: ignore[call-arg]
    client.get(7)  # type: ignore[arg-type]
    client.list_jobs(state="finished")  # type: ignore[arg-type]
    client.statistics("2h")  # type: ignore[arg-type]
    client.get("J").state = "done"  # type: ignore[misc]
