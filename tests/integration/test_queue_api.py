"""`GET /queue`: what runs and how far it is, who waits in which order and why; and what jobs and calls are told."""

from __future__ import annotations

import asyncio
import re

import pytest

from foreman.clock import Micros
from foreman.fsm.job import State
from tests.fakes.ollama import FakeOllama
from tests.kit import Running, running

INTERACTIVE = {"class": "interactive"}
CLOCK = r"\d\d:\d\d:\d\d UTC"
SPAN = ("eta_low_seconds", "eta_seconds", "eta_high_seconds")


async def shown(foreman: Running, **params) -> dict:
    answer = await foreman.client.get("/queue", params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def learn(foreman: Running, *models: str) -> None:
    """Have a few jobs of each model done, so that loads and runs are measured."""
    await foreman.until_finished(*[await foreman.submit(model) for model in models for _ in range(3)])


async def test_running_job_shows_how_far_it_is(tmp_path):
    async with FakeOllama(models=["a"]) as fake, running(tmp_path, fake.url) as foreman:
        with fake.hold("a", at="load") as load:
            job_id = await foreman.submit("a", "one two three four five")
            await load.reached()
            (loading,) = (await shown(foreman))["running"]
            assert (loading["job_id"], loading["phase"], loading["attempt"]) == (job_id, "loading", 1)
            assert loading["tokens"] is None
        with fake.hold("a", after=3) as gate:
            await gate.reached()
            await foreman.until_state(job_id, State.WORKING)
            tail = foreman.foreman.tails.get(job_id)
            with tail.watch() as changed:
                while tail.run.lines < 3:
                    await changed.wait()
                    changed.clear()
            (working,) = (await shown(foreman))["running"]
        assert (working["phase"], working["model"], working["tokens"]) == ("working", "a", 3)
        assert 3 / working["tokens_per_second"] == pytest.approx(working["elapsed_seconds"], abs=0.001)
        assert working["eta_low_seconds"] <= working["eta_seconds"] <= working["eta_high_seconds"]
        await foreman.until_finished(job_id)
        assert (await shown(foreman))["running"] == []


async def test_waiting_jobs_are_shown_by_model_in_the_order_they_then_start(tmp_path):
    async with FakeOllama(models=["a", "b", "c"]) as fake, running(tmp_path, fake.url) as foreman:
        await learn(foreman, "b", "c", "a")
        with fake.hold("a") as gate:
            first = await foreman.submit("a")
            await gate.reached()
            jobs = [await foreman.submit(model, **members) for model, members in (
                ("c", {}), ("b", INTERACTIVE), ("a", {}), ("a", INTERACTIVE), ("c", {}))]  # fmt: skip
            queue = await shown(foreman)
        lines = queue["waiting"]
        assert [(line["model"], line["count"]) for line in lines] == [("a", 2), ("b", 1), ("c", 2)]
        told = [job for line in lines for job in line["jobs"]]
        assert [job["position"] for job in told] == [1, 2, 3, 4, 5]
        assert all(job["eta_low_seconds"] <= job["eta_seconds"] <= job["eta_high_seconds"] for job in told)
        assert [job["eta_seconds"] for job in told] == sorted(job["eta_seconds"] for job in told)
        await foreman.until_finished(*jobs)
        started = [item.stream for item in await foreman.events() if item.event.type == "job.working"]
        assert started[started.index(first) + 1 :] == [job["job_id"] for job in told]


async def test_each_waiting_job_says_why_in_a_sentence(tmp_path):
    async with FakeOllama(models=["a", "b"]) as fake, running(tmp_path, fake.url) as foreman:
        await learn(foreman, "b", "a")
        with fake.hold("a") as gate:
            await foreman.submit("a")
            await gate.reached()
            ids = [await foreman.submit(model) for model in "abb"]
            queue = await shown(foreman)
            own = [(await foreman.client.get(f"/jobs/{job_id}")).json()["queue"] for job_id in ids]
        reasons = [job["reason"] for line in queue["waiting"] for job in line["jobs"]]
        assert reasons[0] == "1st of 1 for a, whose turn it is"
        assert re.fullmatch(rf"1st of 2 for b, after a, whose turn ends by {CLOCK}", reasons[1])
        assert re.fullmatch(rf"2nd of 2 for b, after a, whose turn ends by {CLOCK}", reasons[2])
        assert [place["position"] for place in own] == [1, 2, 3]
        assert [place["reason"][:10] for place in own] == [reason[:10] for reason in reasons]
        assert all(set(SPAN) < place.keys() for place in own)
        mode = queue["mode"]
        assert (mode["model"], mode["reason"]) == (
            "a", "a keeps the target until nobody waits for it, then b is loaded")  # fmt: skip
        assert mode["since"] < mode["until"]


async def test_job_whose_attempt_broke_waits_for_its_retry(tmp_path):
    async with FakeOllama(models=["a"]) as fake, running(tmp_path, fake.url) as foreman:
        fake.inject("reset_after", model="a", after=1)
        job_id = await foreman.submit("a", "one two three")
        await foreman.until(lambda: foreman.foreman.ledger.work.queue.next_due is not None)
        (line,) = (await shown(foreman))["waiting"]
        (job,) = line["jobs"]
        assert (job["job_id"], line["resting"]) == (job_id, 1)
        assert re.fullmatch(rf"waits for its retry at {CLOCK}", job["reason"])
        assert job["not_before"] is not None


async def test_absent_target_is_the_reason_and_nobody_knows_an_eta(tmp_path):
    async with FakeOllama(models=["a"]) as fake, running(tmp_path, fake.url, poll_interval="100ms") as foreman:
        await learn(foreman, "a")
        await fake.go_away()
        await foreman.until(lambda: not foreman.foreman.inventory.up)
        await foreman.submit("a")
        queue = await shown(foreman)
        (job,) = queue["waiting"][0]["jobs"]
        assert [job[name] for name in SPAN] == [None] * 3
        assert job["reason"] == queue["mode"]["reason"] == "the Ollama server is not reachable"
        assert queue["mode"]["until"] is None


async def test_idle_foreman_says_so(tmp_path):
    async with FakeOllama(models=["a"]) as fake, running(tmp_path, fake.url) as foreman:
        await foreman.foreman.inventory.refresh()
        queue = await shown(foreman)
        assert (queue["waiting"], queue["running"], queue["count"]) == ([], [], 0)
        assert queue["mode"]["reason"] == "nothing runs and nothing waits"
        await learn(foreman, "a")
        assert (await shown(foreman))["mode"]["reason"] == "a is loaded and idle"


@pytest.mark.parametrize("limit", [0, 1, 3])
async def test_page_shows_so_many_jobs_of_each_model_and_counts_the_rest(tmp_path, limit):
    async with FakeOllama(models=["a", "b"]) as fake, running(tmp_path, fake.url) as foreman:
        with fake.hold("a", at="load") as load:
            await foreman.submit("a")
            await load.reached()
            await foreman.client.post("/jobs", json=[{"model": "ab"[n % 2], "prompt": "x"} for n in range(10)])
            queue = await shown(foreman, limit=limit)
            assert [(line["count"], len(line["jobs"])) for line in queue["waiting"]] == [(5, limit)] * 2
            assert (queue["count"], queue["other_load_keys"]) == (10, 0)


@pytest.mark.parametrize("query", ["limit=21", "limit=-1", "limit=x", "model=a"])
async def test_wrong_query_is_refused(tmp_path, query):
    async with FakeOllama(models=["a"]) as fake, running(tmp_path, fake.url) as foreman:
        answer = await foreman.client.get(f"/queue?{query}")
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")


async def test_blocking_call_is_told_its_place_when_it_came(tmp_path):
    async with FakeOllama(models=["a", "b"]) as fake, running(tmp_path, fake.url) as foreman:
        with fake.hold("a", at="load") as load:
            await foreman.submit("a")
            await load.reached()
            queue = foreman.foreman.ledger.work.queue
            calls = []
            for number, model in enumerate("ab", start=1):
                calls.append(asyncio.create_task(foreman.chat(model)))
                await foreman.until(lambda number=number: len(queue) == number)
        answers = await asyncio.gather(*calls)
        assert [answer.headers["x-foreman-queue-position"] for answer in answers] == ["1", "2"]


async def test_forecasts_are_held_against_what_then_happened(tmp_path):
    async with FakeOllama(models=["a"]) as fake, running(tmp_path, fake.url) as foreman:
        promises = foreman.foreman.outlook.promises
        with fake.hold("a", at="load") as load:
            first = await foreman.submit("a")
            await load.reached()
            # Nobody has measured anything yet, so it is told the wait for a run of some seconds.
            jobs = [await foreman.submit("a") for _ in range(3)]
        await foreman.until_finished(first, *jobs)
        # The first one found nobody before it, and so was told nothing.
        assert (promises.count, sum(promises.counts)) == (3, 3)
        assert promises.total > 0


async def test_jobs_that_are_gone_are_forgotten_by_the_outlook(tmp_path):
    async with FakeOllama(models=["a"]) as fake, running(tmp_path, fake.url) as foreman:
        outlook = foreman.foreman.outlook
        with fake.hold("a", at="load") as load:
            first = await foreman.submit("a")
            await load.reached()
            assert outlook.begun[first].loading
            assert outlook.begun[first].at <= Micros(foreman.foreman.clock.now())
            waiting = await foreman.submit("a")
            await foreman.client.delete(f"/jobs/{waiting}")
        await foreman.until_finished(first, waiting)
        assert (outlook.begun, outlook.promises.count) == ({}, 0)
