"""A day of a foreman in a quarter of a minute, watched by a real Prometheus, and what that knows at the end of it.

A webhook was given up before. Then two models in turn, interactive callers, embeddings, a job that is refused, one
that is cancelled, webhooks that are taken or not, calls that stall, an outage; at last foreman itself is killed.
"""

from __future__ import annotations

import asyncio
import signal
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx

from foreman.webhooks.schedule import BACKOFF_S
from tests.core import HandClock
from tests.fakes.ollama import FakeOllama
from tests.fakes.receiver import Receiver, answer, gone
from tests.integration.webhook_kit import failed, lane, look_again, settled
from tests.kit import PATIENCE_S, Process, running
from tests.ops import grafana
from tests.ops.prometheus import SCRAPE_S, Prometheus, scraping

MODELS = ("a", "b")
SETTINGS = {
    "poll_interval": "100ms",
    # Long for this fake on a slow machine, and short for whoever waits.
    "stall_after": "1s",
    "stall_between": "1s",
    "max_attempts": "10",
    # What was given up days ago is still there.
    "job_ttl": "720h",
}
DAYS_US = 3 * 24 * 3_600 * 1_000_000


@dataclass(frozen=True)
class Record:
    """What was known at the end."""

    #: The last scrape as foreman gave it, and as promtool is to judge it.
    exposition: str
    #: The series of each query of the dashboard.
    answers: dict[grafana.Query, list[dict[str, Any]]]
    #: The values that the dashboard's variables may take.
    choices: dict[str, list[str]]
    targets: list[dict[str, Any]]
    rules: list[dict[str, Any]]
    #: The alerts that were ever pending or firing, foreman's end included.
    alerts: set[str] = field(default_factory=set)


async def watched(folder: Path) -> Record:
    """Live through the day and ask for everything."""
    async with FakeOllama((*MODELS, "e"), load_seconds=0.1, seconds_per_token=0.03) as fake, Receiver() as receiver:
        await _days_before(folder, fake, receiver)
        process = Process(folder, fake.url, **SETTINGS)
        try:
            url = await process.start()
            address = url.removeprefix("http://")
            async with (
                scraping(folder, address) as prometheus,
                httpx.AsyncClient(base_url=url, timeout=PATIENCE_S, trust_env=False) as client,
            ):
                began = time.time()
                await prometheus.until("foreman_target_up == 1")
                await _day(client, fake, receiver, prometheus)
                exposition = (await client.get("/metrics")).text
                record = await _record(prometheus, exposition, began)
                process.signal(signal.SIGKILL)
                await prometheus.until('ALERTS{alertname="ForemanDown"}')
                alerts = await prometheus.query("group by (alertname) (last_over_time(ALERTS[5m]))")
                return replace(record, alerts={series["metric"]["alertname"] for series in alerts})
        finally:
            await process.kill()


async def _days_before(folder: Path, fake: FakeOllama, receiver: Receiver) -> None:
    """A webhook whose receiver failed at every attempt, for a day."""
    clock = HandClock(time.time_ns() // 1_000 - DAYS_US)
    async with running(folder, fake.url, clock=clock, **SETTINGS) as foreman:
        receiver.default = answer(503)
        job_id = await foreman.submit("a", state_webhook_url=receiver.url, webhook_events=["done"])
        await foreman.until_finished(job_id)
        for times in range(1, len(BACKOFF_S) + 1):
            await failed(foreman, job_id, times)
            clock.at = lane(foreman, job_id).head.due
            await look_again(foreman)
        await settled(foreman)
        receiver.default = answer(204)


async def _day(client: httpx.AsyncClient, fake: FakeOllama, receiver: Receiver, prometheus: Prometheus) -> None:
    """Everything that can happen, each thing seen by Prometheus before the next one."""
    receiver.behave(answer(500), gone())
    fake.inject("status", model="b", status=400)
    jobs = await _submit(client, receiver, 16)
    cancelled = jobs[-1]
    assert (await client.delete(f"/jobs/{cancelled}")).status_code == 200
    chats = [client.post("/api/chat", json=_chat(model)) for model in MODELS]
    embeddings = [client.post("/api/embed", json={"model": "e", "input": "one two"}) for _ in range(8)]
    answered = [answered.status_code for answered in await asyncio.gather(*chats, *embeddings)]
    # A chat may be the one that is refused.
    assert answered[len(chats) :] == [200] * len(embeddings)
    await _finished(client, jobs)
    await prometheus.until('foreman_jobs_finished_total{outcome="failed"} == 1')
    await prometheus.until('foreman_webhook_attempts_total{result="gone"} > 0')

    fake.inject("hang", on="*", model="a", times=None)
    jobs = await _submit(client, receiver, 4)
    await prometheus.until(
        'foreman_target_stalled_timestamp_seconds > 0 and on () ALERTS{alertname="ForemanTargetStalled"}'
    )
    fake.release()
    await _finished(client, jobs)

    await fake.go_away()
    await prometheus.until('foreman_target_up == 0 and on () ALERTS{alertname="ForemanTargetDown"}')
    jobs = await _submit(client, receiver, 8)
    await prometheus.until("sum(foreman_jobs_queued) == 8")
    await fake.come_back()
    await _finished(client, jobs)
    await prometheus.until("sum(foreman_jobs_queued) + sum(foreman_jobs_running) + sum(foreman_webhooks_pending) == 0")


def _chat(model: str) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "one two three"}], "stream": False}


async def _submit(client: httpx.AsyncClient, receiver: Receiver, count: int) -> list[str]:
    """Queue jobs of the models in turn, all of which are told of; their ids."""
    members = {"prompt": "one two three", "state_webhook_url": receiver.url, "webhook_events": ["done"]}
    body = [{"model": MODELS[number % len(MODELS)], **members} for number in range(count)]
    accepted = await client.post("/jobs", json=body)
    assert accepted.status_code == 202, accepted.text
    return [job["job_id"] for job in accepted.json()["jobs"]]


async def _finished(client: httpx.AsyncClient, ids: list[str]) -> None:
    for job_id in ids:
        job = (await client.get(f"/jobs/{job_id}?wait=20s")).json()
        assert job["completed_at"], job


async def _record(prometheus: Prometheus, exposition: str, began: float) -> Record:
    """Ask everything that the dashboard asks, for the time since `began`."""
    ended = time.time()
    variables: dict[str, str] = {}
    choices: dict[str, list[str]] = {}
    for name, variable in grafana.variables().items():
        found = grafana.LABEL_VALUES.fullmatch(variable["query"]["query"])
        assert found is not None
        of = grafana.Query(name, found[1]).filled(variables, ended - began)
        choices[name] = await prometheus.get(f"label/{found[2]}/values", **{"match[]": of})
        variables[name] = variable["allValue"] if variable["includeAll"] else choices[name][0]
    answers = {}
    for query in grafana.queries():
        expression = query.filled(variables, ended - began)
        if query.instant:
            answers[query] = [{"values": [found["value"]]} for found in await prometheus.query(expression, ended)]
        else:
            answers[query] = await prometheus.query_range(expression, began - SCRAPE_S, ended)
    targets = (await prometheus.get("targets"))["activeTargets"]
    rules = [rule for group in (await prometheus.get("rules"))["groups"] for rule in group["rules"]]
    return Record(exposition, answers, choices, targets, rules)
