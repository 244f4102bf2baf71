"""`GET /jobs`: filters, pages, and the places of those who wait, which are the order in which they then start."""

from __future__ import annotations

import asyncio
import random

import pytest

from tests.fakes.ollama import FakeOllama
from tests.kit import Running, running

INTERACTIVE = {"class": "interactive"}


async def ids(foreman: Running, **params) -> list[str]:
    """The ids on the first page."""
    answer = await foreman.client.get("/jobs", params=params)
    assert answer.status_code == 200, answer.text
    return [job["job_id"] for job in answer.json()["jobs"]]


async def walk(foreman: Running, limit: int, **params) -> list[str]:
    """The ids on all pages, while each page brings a new job."""
    found, cursor = [], {}
    while True:
        answer = (await foreman.client.get("/jobs", params={"limit": limit, **params, **cursor})).json()
        found += [job["job_id"] for job in answer["jobs"]]
        assert len(answer["jobs"]) == limit or answer["next"] is None
        if answer["next"] is None:
            return found
        cursor = {"cursor": answer["next"]}
        await foreman.submit("b", "newcomer")


async def test_filters_hold_together(tmp_path):
    async with FakeOllama(models=["a", "b"]) as fake, running(tmp_path, fake.url) as foreman:
        sync = (await foreman.chat("a", "blocking")).headers["x-foreman-job-id"]
        done = await foreman.submit("a")
        await foreman.until_finished(sync, done)
        with fake.hold("b", at="load") as load:
            loading = await foreman.submit("b")
            await load.reached()
            batch = await foreman.submit("a")
            chat = await foreman.submit("a", **INTERACTIVE)
            prompt = (await foreman.client.post("/jobs", json={"model": "b", "prompt": "x"})).json()["job_id"]
            assert await ids(foreman) == [prompt, chat, batch, loading, done, sync]
            assert await ids(foreman, state="queued") == [prompt, chat, batch]
            assert await ids(foreman, state="loading,done") == [loading, done, sync]
            assert await ids(foreman, state="queued", model="a") == [chat, batch]
            assert await ids(foreman, **{"class": "interactive"}) == [chat, sync]
            assert await ids(foreman, source="sync") == [sync]
            assert await ids(foreman, endpoint="generate") == [prompt]
            assert await ids(foreman, state="queued", model="a", source="async", endpoint="chat", **INTERACTIVE) == [
                chat
            ]
            assert await ids(foreman, state="cancelled") == []
            assert await ids(foreman, model="a' OR 1=1 --") == []
            assert await ids(foreman, state="queued", model="library/A:LATEST") == [chat, batch]


@pytest.mark.parametrize("limit", [1, 3, 10])
async def test_pages_show_every_job_once_while_new_ones_arrive(tmp_path, limit):
    async with FakeOllama(models=["a", "b"]) as fake, running(tmp_path, fake.url) as foreman:
        with fake.hold(at="load"):
            jobs = [await foreman.submit("a", str(number)) for number in range(10)]
            assert await walk(foreman, limit) == jobs[::-1]
            assert await walk(foreman, limit, model="a") == jobs[::-1]


async def test_list_shows_jobs_as_they_show_themselves_but_for_the_contents(tmp_path):
    async with FakeOllama(models=["a"]) as fake, running(tmp_path, fake.url) as foreman:
        job_id = await foreman.submit("a")
        await foreman.until_finished(job_id)
        alone = (await foreman.client.get(f"/jobs/{job_id}")).json()
        del alone["artifacts"][0]["data"]
        assert (await foreman.client.get("/jobs")).json() == {"jobs": [alone], "next": None}


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("limit=0", "limit"), ("limit=-1", "limit"), ("limit=1001", "limit"), ("limit=1e3", "limit"),
        ("limit=", "limit"), ("limit=99999999999999999999999999", "limit"), ("limit=5&limit=6", "twice"),
        ("state=new", "state"), ("state=", "state"), ("state=queued,nonsense", "nonsense"),
        ("cursor=!", "cursor"), ("cursor=", "cursor"), ("cursor=LTE", "cursor"), ("cursor=%ff", "cursor"),
        ("cursor=OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5", "cursor"), ("class=vip", "class"), ("source=x", "source"),
        ("endpoint=embed", "endpoint"), ("nonsense=1", "nonsense"),
    ],
)  # fmt: skip
async def test_wrong_query_is_refused_by_name(tmp_path, query, named):
    async with FakeOllama(models=["a"]) as fake, running(tmp_path, fake.url) as foreman:
        answer = await foreman.client.get(f"/jobs?{query}")
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
        assert named in answer.json()["error"]


@pytest.mark.parametrize("seed", range(3))
async def test_places_are_the_order_in_which_the_jobs_then_start(tmp_path, seed):
    chosen = random.Random(seed)
    async with FakeOllama(models=["a", "b", "c"]) as fake, running(tmp_path, fake.url) as foreman:
        with fake.hold("b", at="load") as load:
            first = await foreman.submit("b")
            await load.reached()
            jobs = [
                await foreman.submit(chosen.choice("abc"), **chosen.choice([{}, INTERACTIVE])) for _ in range(20)
            ]  # fmt: skip
            await foreman.client.delete(f"/jobs/{jobs.pop(7)}")
            places = {job["job_id"]: job["queue"] for job in [
                (await foreman.client.get(f"/jobs/{job_id}")).json() for job_id in jobs]}  # fmt: skip
            assert (await foreman.client.get(f"/jobs/{first}")).json()["queue"] is None
            load.release()
            await foreman.until_finished(*jobs)
        started = [item.stream for item in await foreman.events() if item.event.type == "job.working"]
        assert started[0] == first
        assert sorted(jobs, key=lambda job_id: places[job_id]["position"]) == started[1:]
        assert sorted(place["ahead"] for place in places.values()) == list(range(19))
        assert all(place["position"] == place["ahead"] + 1 for place in places.values())


async def test_place_moves_up_as_others_go(tmp_path):
    async with FakeOllama(models=["a"]) as fake, running(tmp_path, fake.url) as foreman:
        with fake.hold("a", at="load") as load:
            await foreman.submit("a")
            await load.reached()
            before, last = await foreman.submit("a"), await foreman.submit("a")
            place = (await foreman.client.get(f"/jobs/{last}")).json()["queue"]
            assert (place["position"], place["ahead"]) == (2, 1)
            await foreman.client.delete(f"/jobs/{before}")
            place = (await foreman.client.get(f"/jobs/{last}")).json()["queue"]
            assert (place["position"], place["ahead"]) == (1, 0)


async def test_listing_while_jobs_finish_never_fails(tmp_path):
    async with FakeOllama(models=["a", "b"]) as fake, running(tmp_path, fake.url) as foreman:
        jobs = [await foreman.submit("ab"[number % 2]) for number in range(40)]
        finishing = asyncio.create_task(foreman.until_finished(*jobs))
        while not finishing.done():
            page = (await foreman.client.get("/jobs")).json()["jobs"]
            assert {job["job_id"] for job in page} == set(jobs)
            assert all((job["queue"] is not None) <= (job["state"] == "queued") for job in page)
        await finishing
