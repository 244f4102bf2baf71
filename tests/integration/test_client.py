"""Both clients against a real foreman: what each call does, and what of the daemon's errors comes back."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import asynccontextmanager

import pytest

from foreman.client import (
    ArtifactNotFound,
    IdempotencyMismatch,
    IllegalTransition,
    JobCancelled,
    JobExpired,
    JobFailed,
    JobNotFound,
    ModelNotFound,
    NewRun,
    PositionUnknown,
    RequestInvalid,
    Retry,
    Unauthorized,
    UnexpectedAnswer,
    Unreachable,
    WaitTimeout,
)
from tests.client_kit import KINDS, connected
from tests.core import HandClock
from tests.fakes.ollama import FakeOllama
from tests.fakes.receiver import Receiver
from tests.integration.webhook_kit import settled
from tests.kit import PATIENCE_S, running
from tests.proxy import Proxy

TEXT = "one two three four five six"
TOKEN = "t0ken-of-the-test"
NO_JOB = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
IMPATIENT = Retry(within_s=0)

pytestmark = pytest.mark.parametrize("kind", KINDS)


@asynccontextmanager
async def set_up(kind, path, **overrides):
    """A target, a foreman in front of it, and a client to that."""
    async with (
        FakeOllama(["a", "b"]) as fake,
        running(path, fake.url, **overrides) as foreman,
        connected(kind, foreman.url, timeout=PATIENCE_S) as client,
    ):
        yield fake, foreman, client


async def all_of(items):
    return [item async for item in items]


async def test_a_job_goes_from_submission_to_its_answer(tmp_path, kind):
    async with set_up(kind, tmp_path) as (_, _, client):
        job = await client.submit(model="a", prompt=TEXT, options={"seed": 1}, job_class="interactive")
        assert (job.model, job.endpoint, job.job_class, job.source) == ("a", "generate", "interactive", "async")
        done = await client.wait(job.job_id)
        assert (done.state, done.finished, done.result.generated_tokens) == ("done", True, 6)
        assert done.raise_for_state() is done
        assert {artifact.name for artifact in done.artifacts} == {"stream", "completion"}
        assert (await client.completion(job.job_id)).text == TEXT
        assert json.loads(await client.artifact(job.job_id))["response"] == TEXT
        lines = await all_of(client.each("stream", job.job_id))
        assert "".join(line.text for line in lines) == TEXT
        assert b"".join(line.line + b"\n" for line in lines) == await client.artifact(job.job_id, "stream")
        types = [event.type for event in await client.job_events(job.job_id)]
        assert types == ["job.queued", "job.loading", "job.working", "job.done"]


async def test_a_waiting_job_knows_its_place_and_may_be_waited_for_in_vain(tmp_path, kind):
    async with set_up(kind, tmp_path) as (fake, _, client):
        with fake.hold("a") as gate:
            await client.submit(model="a", prompt="first")
            await gate.reached()
            job = await client.submit(model="a", messages=[{"role": "user", "content": TEXT}])
            waiting = await client.get(job.job_id)
            assert (waiting.place.position, waiting.place.reason) == (1, "1st of 1 for a, whose turn it is")
            with pytest.raises(WaitTimeout, match="still queued"):
                await client.wait(job.job_id, timeout=0.05)
            queue = await client.queue()
            assert [job.phase for job in queue.running] == ["working"]
            assert [(line.model, [job.job_id for job in line.jobs]) for line in queue.waiting] == [("a", [job.job_id])]
            gate.release()
        assert (await client.completion(job.job_id, timeout=PATIENCE_S)).text == TEXT


async def test_a_cancelled_job_says_so_wherever_its_answer_is_asked_for(tmp_path, kind):
    async with set_up(kind, tmp_path) as (fake, _, client):
        with fake.hold("a"):
            job = await client.submit(model="a", prompt=TEXT)
            with pytest.raises(IllegalTransition):
                await client.retry(job.job_id)
            assert (await client.cancel(job.job_id)).state == "cancelled"
            assert (await client.cancel(job.job_id)).error.by == "api"
        for attempt in (client.completion(job.job_id), all_of(client.each("stream", job.job_id))):
            with pytest.raises(JobCancelled):
                await attempt
        again = await client.retry(job.job_id)
        assert (again.retry_of, (await client.wait(again.job_id)).state) == (job.job_id, "done")


async def test_a_failed_job_raises_its_own_error(tmp_path, kind):
    async with set_up(kind, tmp_path) as (fake, _, client):
        fake.inject("status", model="a", status=418, body='{"error":"teapot"}')
        job = await client.submit(model="a", prompt=TEXT)
        with pytest.raises(JobFailed, match="teapot") as caught:
            await client.completion(job.job_id)
        assert caught.value.code == "target_refused"
        with pytest.raises(JobFailed, match="teapot"):
            await all_of(client.each("stream", job.job_id))
        with pytest.raises(ArtifactNotFound):
            await client.artifact(job.job_id)


async def test_many_jobs_are_submitted_listed_and_filtered(tmp_path, kind):
    async with set_up(kind, tmp_path) as (_, _, client):
        bodies = [{"model": "ab"[number % 2], "prompt": f"text {number}"} for number in range(25)]
        jobs = await all_of(client.each("submit_many", bodies, chunk=10, idempotency_key="night"))
        assert [job.model for job in jobs] == [body["model"] for body in bodies]
        repeated = await all_of(client.each("submit_many", bodies, chunk=10, idempotency_key="night"))
        assert [job.job_id for job in repeated] == [job.job_id for job in jobs]
        listed = await all_of(client.each("list_jobs", model="a", page=4))
        assert [job.job_id for job in listed] == [job.job_id for job in reversed(jobs[::2])]
        for job in jobs:
            await client.wait(job.job_id)
        assert len(await all_of(client.each("list_jobs", state=("done", "failed"), source="async"))) == 25


async def test_errors_are_the_daemons_by_code(tmp_path, kind):
    async with set_up(kind, tmp_path) as (_, _, client):
        await client.submit(model="a", prompt="x", idempotency_key="k")
        errors = {
            client.get(NO_JOB): JobNotFound,
            client.submit(model="nobody", prompt="x"): ModelNotFound,
            client.submit(model="a"): RequestInvalid,
            client.submit(model="a", prompt="y", idempotency_key="k"): IdempotencyMismatch,
            client.queue(limit=-1): RequestInvalid,
            client.statistics("2h"): RequestInvalid,
            all_of(client.each("events", after=10_000, follow=False)): PositionUnknown,
            all_of(client.each("events", types="none", follow=False)): RequestInvalid,
            all_of(client.each("events", after=10_000)): PositionUnknown,
            all_of(client.each("events", job=NO_JOB)): JobNotFound,
            all_of(client.each("deliveries", NO_JOB)): JobNotFound,
            all_of(client.each("submit_many", [{"model": "a", "prompt": "x"}, {"model": "a"}])): RequestInvalid,
        }
        for call, error in errors.items():
            with pytest.raises(error) as caught:
                await call
            assert type(caught.value) is error


async def test_a_job_past_its_time_is_expired_but_has_its_history(tmp_path, kind):
    clock = HandClock()
    async with (
        FakeOllama(["a"]) as fake,
        running(tmp_path, fake.url, clock=clock, job_ttl="1m") as foreman,
        connected(kind, foreman.url) as client,
    ):
        job = await client.submit(model="a", prompt="x")
        await client.wait(job.job_id)
        clock.at += 120_000_000
        await foreman.foreman.sweeper.sweep()
        for call in (client.get(job.job_id), client.completion(job.job_id), client.artifact(job.job_id)):
            with pytest.raises(JobExpired):
                await call
        assert (await client.job_events(job.job_id))[-1].type == "job.expired"


async def test_the_token_is_sent_and_a_wrong_one_is_refused_without_being_shown(tmp_path, kind):
    async with set_up(kind, tmp_path, token=TOKEN) as (_, foreman, _):
        async with connected(kind, foreman.url, TOKEN) as client:
            assert (await client.queue()).count == 0
        async with connected(kind, foreman.url, f"{TOKEN}-not") as client:
            assert (await client.health()).status == "ok"
            with pytest.raises(Unauthorized) as caught:
                await client.queue()
            assert "FOREMAN_TOKEN" in caught.value.hint
            assert TOKEN not in str(caught.value) + repr(caught.value) + caught.value.hint


async def test_a_daemon_that_is_not_there_is_named(kind):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens there
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        async with connected(kind, f"http://me:geheim@{place}", retry=IMPATIENT) as client:
            with pytest.raises(Unreachable, match=place) as caught:
                await client.queue()
    assert caught.value.hint
    assert "geheim" not in str(caught.value)


async def test_an_ollama_is_not_taken_for_a_foreman(kind):
    async with FakeOllama(["a"]) as fake, connected(kind, fake.url) as client:
        with pytest.raises(UnexpectedAnswer, match="not foreman's"):
            await client.submit(model="a", prompt="x")
        assert [model.name for model in await client.models()] == ["a:latest"]


async def test_models_health_and_figures_are_told(tmp_path, kind):
    async with set_up(kind, tmp_path) as (_, _, client):
        job = await client.submit(model="a", prompt=TEXT)
        await client.wait(job.job_id)
        assert {model.name for model in await client.models()} == {"a:latest", "b:latest"}
        assert all(model.size for model in await client.ps())
        health = await client.health()
        assert (health.target.reachable, health.degraded, health.queue["waiting"]) == (True, False, 0)
        figures = await client.statistics("6h")
        assert (figures.window, figures.totals["done"], sum(point.done for point in figures.points)) == ("6h", 1, 1)
        assert [(model.model, model.generated_tokens) for model in figures.models if model.done] == [("a:latest", 6)]


async def test_the_head_of_the_log_is_that_of_its_newest_event(tmp_path, kind):
    async with set_up(kind, tmp_path) as (_, _, client):
        await client.wait((await client.submit(model="a", prompt="x")).job_id)
        head = await client.audit_head()
        last = (await all_of(client.each("events", after=0, follow=False)))[-1]
        assert (head.position, head.hash) == (last.position, last.hash)


async def test_deliveries_are_listed_and_sent_once_more(tmp_path, kind):
    async with set_up(kind, tmp_path) as (_, foreman, client), Receiver() as receiver:
        job = await client.submit(model="a", prompt="x", webhook=receiver.url)
        await client.wait(job.job_id)
        await settled(foreman)
        told = await all_of(client.each("deliveries", job.job_id))
        assert [(item.tells, item.state, item.attempts[0].status) for item in told] == [
            (state, "delivered", 200) for state in ("queued", "loading", "working", "done")
        ]
        assert await all_of(client.each("deliveries", job.job_id, state="dead")) == []
        newest = await all_of(client.each("deliveries", state="delivered", receiver=told[0].receiver, page=3))
        assert [item.id for item in newest] == [item.id for item in reversed(told)]
        assert await client.redeliver(job.job_id, delivery_id=told[0].id) == 1
        assert await client.redeliver_all(state="dead", since=job.created_at) == 0


async def test_events_come_as_they_happen_and_as_they_were(tmp_path, kind):
    async with set_up(kind, tmp_path) as (_, _, client):
        live = client.each("events", after=0, types=["job.queued", "job.done"])
        job = await client.submit(model="a", prompt="x")
        async with asyncio.timeout(PATIENCE_S):
            heard = [await anext(live), await anext(live)]
        await live.aclose()
        assert [(event.type, event.stream) for event in heard] == [("job.queued", job.job_id), ("job.done", job.job_id)]
        past = await all_of(client.each("events", after=0, job=job.job_id, follow=False))
        assert [event for event in past if event.type in {"job.queued", "job.done"}] == heard


@pytest.mark.parametrize("cut_after", [700, 1_000, 1_300])
async def test_a_stream_over_a_connection_that_keeps_breaking_is_the_same(tmp_path, kind, cut_after):
    async with FakeOllama(["a"], tokens=40) as fake, running(tmp_path, fake.url) as foreman:
        async with Proxy(foreman.url).open() as proxy:
            proxy.cut_after = cut_after
            async with connected(kind, proxy.url, retry=Retry(first_s=0.001, most_s=0.001)) as client:
                with fake.hold("a", after=20) as gate:
                    job_id = await foreman.submit("a", "word")
                    await gate.reached()
                    lines = [await anext(items := client.each("stream", job_id))]
                    gate.release()
                    async with asyncio.timeout(PATIENCE_S):
                        lines += await all_of(items)
            assert proxy.connections > 2
        kept = await foreman.client.get(f"/jobs/{job_id}/artifacts/stream")
        assert [line.line for line in lines] == kept.content.splitlines()
        assert [line.number for line in lines] == list(range(1, 42))


async def test_events_over_a_connection_that_keeps_breaking_are_the_same(tmp_path, kind):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url) as foreman:
        await foreman.until_finished(*[await foreman.submit("a") for _ in range(10)])
        async with Proxy(foreman.url).open() as proxy:
            proxy.cut_after = 2_000
            async with connected(kind, proxy.url, retry=Retry(first_s=0.001, most_s=0.001)) as client:
                whole = [event.position for event in await foreman.events()]
                items = client.each("events", after=0)
                async with asyncio.timeout(PATIENCE_S):
                    heard = [(await anext(items)).position for _ in whole]
                await items.aclose()
            assert heard == whole
            assert proxy.connections > 2


async def test_a_new_run_is_an_item_of_the_stream(tmp_path, kind):
    async with set_up(kind, tmp_path) as (fake, _, client):
        fake.inject("reset_after", model="a", after=3)
        with fake.hold("a", after=2) as gate:
            job = await client.submit(model="a", prompt=TEXT)
            await gate.reached()
            lines = [await anext(items := client.each("stream", job.job_id))]
            gate.release()
            lines += await all_of(items)
        start = lines.index(NewRun(run=2, attempt=2))
        assert "".join(line.text for line in lines[start + 1 :]) == TEXT


async def test_a_follower_that_leaves_leaves_nothing_behind(tmp_path, kind):
    async with set_up(kind, tmp_path) as (fake, foreman, client):
        with fake.hold("a", after=2) as gate:
            job = await client.submit(model="a", prompt=TEXT)
            await gate.reached()
            items = client.each("stream", job.job_id)
            await anext(items)
            tail = foreman.foreman.tails.open(job.job_id)
            assert len(tail._watchers) == 1
            await items.aclose()
            async with asyncio.timeout(PATIENCE_S):
                while tail._watchers:  # the job has not ended: it was the follower that left
                    await asyncio.sleep(0)
            gate.release()


async def test_a_prefix_of_a_reverse_proxy_is_kept(kind):
    asked = []

    async def answer(reader, writer):
        asked.append((await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")[0])
        writer.write(b'HTTP/1.1 404 x\r\ncontent-length: 37\r\n\r\n{"error": "no", "code": "not_found"}  ')
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        async with connected(kind, f"http://127.0.0.1:{port}/box/foreman/") as client:
            with pytest.raises(Exception, match="no"):
                await client.get(NO_JOB)
    assert asked == [f"GET /box/foreman/jobs/{NO_JOB} HTTP/1.1".encode()]
