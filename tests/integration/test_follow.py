"""`GET /jobs/{id}/stream`: every line once and in order, whoever leaves, comes back, or starts anew in between."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3

import httpx
import pytest

from foreman.fsm.job import State
from foreman.tails import Tail
from tests.fakes.ollama import FakeOllama
from tests.kit import PATIENCE_S, Process, running

TEXT = "one two three four five six"
#: The tokens of the answer to TEXT and its last line.
LINES = 7


class Followed:
    """What a follower has heard so far."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.lines: list[dict] = []
        #: How the connection ended; None = in good order.
        self.broken: Exception | None = None
        self._news = asyncio.Event()
        self._ended = False

    async def read(self) -> None:
        try:
            async for line in self.response.aiter_lines():
                self.lines.append(json.loads(line))
                self._news.set()
        except httpx.TransportError as error:
            self.broken = error
        self._ended = True
        self._news.set()

    async def heard(self, count: int) -> list[dict]:
        """Wait until so many lines have come, or all."""
        async with asyncio.timeout(PATIENCE_S):
            while len(self.lines) < count and not self._ended:
                self._news.clear()
                await self._news.wait()
        return self.lines

    async def all(self) -> list[dict]:
        """Wait for the end."""
        return await self.heard(10_000)


@contextlib.asynccontextmanager
async def follow(client: httpx.AsyncClient, job_id: str, **params):
    """A follower of a job, from the moment that foreman has taken it on; it leaves at the end of the block."""
    async with client.stream("GET", f"/jobs/{job_id}/stream", params=params) as response:
        assert response.status_code == 200
        followed = Followed(response)
        task = asyncio.create_task(followed.read())
        yield followed
        task.cancel()
        await asyncio.wait({task})


async def all_of(client: httpx.AsyncClient, job_id: str, **params) -> list[dict]:
    """Follow a job to its end."""
    async with follow(client, job_id, **params) as followed:
        return await followed.all()


def said(lines: list[dict]) -> str:
    """The target's words in some lines."""
    return "".join(line["message"]["content"] for line in lines if "foreman" not in line)


def markers(lines: list[dict]) -> list[str]:
    """foreman's own lines, as text."""
    return [
        f"run {line['foreman']['run']}" if line["foreman"]["event"] == "run" else line["foreman"]["event"]
        for line in lines
        if "foreman" in line
    ]


async def test_follower_is_there_from_queued_through_loading_to_done(tmp_path):
    async with FakeOllama(models=["a", "b"]) as fake, running(tmp_path, fake.url) as foreman:
        with fake.hold("a") as first, fake.hold("b", at="load") as load, fake.hold("b", after=2) as token:
            await foreman.submit("a")
            await first.reached()
            job_id = await foreman.submit("b", TEXT)
            async with follow(foreman.client, job_id) as followed:
                assert (await foreman.job(job_id)).state is State.QUEUED
                first.release()
                await load.reached()
                assert (await foreman.job(job_id)).state is State.LOADING
                assert followed.lines == []
                load.release()
                await token.reached()
                assert said(await followed.heard(2)) == "one two"
                await foreman.until_state(job_id, State.WORKING)
                token.release()
                lines = await followed.all()
        assert (said(lines), len(lines), markers(lines)) == (TEXT, LINES, [])
        assert lines[-1]["done"] is True
        assert followed.broken is None


async def test_follower_of_a_finished_job_gets_the_same_bytes_as_a_live_one(tmp_path):
    async with FakeOllama(models=["a"]) as fake, running(tmp_path, fake.url) as foreman:
        with fake.hold("a", after=1) as gate:
            job_id = await foreman.submit("a", TEXT)
            await gate.reached()
            live = asyncio.create_task(foreman.client.get(f"/jobs/{job_id}/stream"))
            async with follow(foreman.client, job_id) as followed:
                await followed.heard(1)
                gate.release()
        await foreman.until_finished(job_id)
        kept = await foreman.client.get(f"/jobs/{job_id}/stream")
        artifact = await foreman.client.get(f"/jobs/{job_id}/artifacts/stream")
        assert (await live).content == kept.content == artifact.content
        assert kept.headers["content-type"] == artifact.headers["content-type"] == "application/x-ndjson"
        assert kept.headers["x-foreman-run"] == "1"


@pytest.mark.parametrize("offset", [0, 1, 3, LINES - 1, LINES, 1_000])
async def test_resumed_follower_gets_exactly_the_rest(tmp_path, offset):
    async with FakeOllama(models=["a"]) as fake, running(tmp_path, fake.url) as foreman:
        with fake.hold("a", after=4) as gate:
            job_id = await foreman.submit("a", TEXT)
            await gate.reached()
            async with (
                follow(foreman.client, job_id) as whole,
                follow(foreman.client, job_id, run=1, offset=offset) as rest,
            ):
                await whole.heard(4)
                gate.release()
                assert await rest.all() == (await whole.all())[offset:]
        await foreman.until_finished(job_id)
        assert await all_of(foreman.client, job_id, run=1, offset=offset) == whole.lines[offset:]


async def test_new_attempt_is_marked_and_starts_from_its_first_line(tmp_path):
    async with FakeOllama(models=["a"]) as fake, running(tmp_path, fake.url) as foreman:
        fault = fake.inject("reset_after", model="a", after=3)
        with fake.hold("a", after=2) as gate:
            job_id = await foreman.submit("a", TEXT)
            await gate.reached()
            async with follow(foreman.client, job_id) as followed:
                await followed.heard(2)
                gate.release()
                lines = await followed.all()
        assert fault.hit
        assert lines[3] == {"foreman": {"event": "run", "run": 2, "attempt": 2}}
        assert (said(lines[:3]), said(lines[4:])) == ("one two three", TEXT)
        assert (await foreman.job(job_id)).run == 2


async def test_follower_that_resumes_in_an_older_run_is_told_and_gets_all_of_the_new_one(tmp_path):
    async with FakeOllama(models=["a"]) as fake, running(tmp_path, fake.url) as foreman:
        fake.inject("reset_after", model="a", after=2)
        with fake.hold("a", after=4) as gate:
            job_id = await foreman.submit("a", TEXT)
            await gate.reached()
            async with (
                follow(foreman.client, job_id, run=1, offset=2) as old,
                follow(foreman.client, job_id, run=2, offset=2) as new,
            ):
                gate.release()
                assert (markers(await old.all()), said(old.lines)) == (["run 2"], TEXT)
                assert (markers(await new.all()), said(new.lines)) == ([], " three four five six")
        await foreman.until_finished(job_id)
        late = await all_of(foreman.client, job_id, run=1, offset=2)
        assert (markers(late), said(late)) == (["run 2"], TEXT)
        assert said(await all_of(foreman.client, job_id, run=2, offset=2)) == " three four five six"


async def test_cancelled_job_ends_its_streams_with_a_marker(tmp_path):
    async with FakeOllama(models=["a"]) as fake, running(tmp_path, fake.url) as foreman:
        with fake.hold("a", after=2) as gate:
            working, queued = await foreman.submit("a", TEXT), await foreman.submit("a", TEXT)
            await gate.reached()
            async with follow(foreman.client, working) as one, follow(foreman.client, queued) as other:
                await one.heard(2)
                for job_id in (queued, working):
                    assert (await foreman.client.delete(f"/jobs/{job_id}")).json()["state"] == "cancelled"
                assert (said(await one.all()), markers(one.lines)) == ("one two", ["cancelled"])
                assert await other.all() == [{"foreman": {"event": "cancelled", "by": "api"}}]
        assert await all_of(foreman.client, working) == [{"foreman": {"event": "cancelled", "by": "api"}}]


async def test_failed_job_ends_its_streams_with_a_marker_and_no_line_of_the_refusal(tmp_path):
    async with FakeOllama(models=["a"]) as fake, running(tmp_path, fake.url) as foreman:
        fake.inject("status", model="a", status=418, body='{"error":\n"teapot"}\n')
        with fake.hold("a", at="load") as load:
            job_id = await foreman.submit("a", TEXT)
            await load.reached()
            async with follow(foreman.client, job_id) as followed:
                load.release()
                live = await followed.all()
        assert markers(live) == ["failed"]
        assert live == await all_of(foreman.client, job_id)
        assert live[-1]["foreman"]["code"] == "target_refused"


async def test_error_in_the_middle_of_an_answer_is_passed_on_and_marked(tmp_path):
    async with FakeOllama(models=["a"]) as fake, running(tmp_path, fake.url) as foreman:
        fake.inject("error_line", model="a", after=2, body="out of memory")
        with fake.hold("a", after=1) as gate:
            job_id = await foreman.submit("a", TEXT)
            await gate.reached()
            async with follow(foreman.client, job_id) as followed:
                gate.release()
                lines = await followed.all()
        assert lines[2] == {"error": "out of memory"}
        assert lines[3]["foreman"] == {"event": "failed", "error": "out of memory", "code": "target_error"}


async def test_many_followers_at_different_places_all_get_their_rest(tmp_path):
    async with FakeOllama(models=["a"], tokens=200) as fake, running(tmp_path, fake.url) as foreman:
        with fake.hold("a", after=100) as gate:
            job_id = await foreman.submit("a", "word")
            await gate.reached()
            limits = httpx.Limits(max_connections=60)
            async with httpx.AsyncClient(base_url=foreman.url, timeout=PATIENCE_S, limits=limits) as client:
                waiting = [asyncio.create_task(all_of(client, job_id, offset=4 * number)) for number in range(50)]
                async with follow(client, job_id) as first:
                    await first.heard(100)
                    gate.release()
                    whole = await first.all()
                assert [await task for task in waiting] == [whole[4 * number :] for number in range(50)]
        assert len(whole) == 201


async def test_follower_that_leaves_leaves_nothing_behind(tmp_path):
    async with FakeOllama(models=["a"]) as fake, running(tmp_path, fake.url) as foreman:
        with fake.hold("a", after=2) as gate:
            job_id = await foreman.submit("a", TEXT)
            await gate.reached()
            tail = foreman.foreman.tails.open(job_id)
            async with follow(foreman.client, job_id) as staying:
                async with follow(foreman.client, job_id) as leaving:
                    await leaving.heard(2)
                    assert len(tail._watchers) == 2
                gate.release()
                assert said(await staying.all()) == TEXT
        assert (await foreman.until_finished(job_id))[0].state is State.DONE
        assert not tail._watchers
        assert len(foreman.foreman.tails) == 0


async def test_waiting_follower_gets_signs_of_life_between_lines_only(tmp_path):
    async with FakeOllama(models=["a"]) as fake, running(tmp_path, fake.url, keepalive_after="20ms") as foreman:
        with fake.hold("a", at="load") as load, fake.hold("a", after=2) as gate:
            job_id = await foreman.submit("a", TEXT)
            await load.reached()
            async with foreman.client.stream("GET", f"/jobs/{job_id}/stream") as response:
                received = response.aiter_bytes()
                assert await anext(received) == b" "
                load.release()
                await gate.reached()
                gate.release()
                body = b"".join([chunk async for chunk in received])
        assert said([json.loads(line) for line in body.splitlines()]) == TEXT


async def test_closing_foreman_breaks_its_followers_off(tmp_path):
    async with FakeOllama(models=["a"]) as fake, running(tmp_path, fake.url) as foreman:
        with fake.hold("a", after=2) as gate:
            job_id = await foreman.submit("a", TEXT)
            await gate.reached()
            async with follow(foreman.client, job_id) as followed:
                await followed.heard(2)
                foreman.foreman.desk.close()
                assert said(await followed.all()) == "one two"
                assert isinstance(followed.broken, httpx.RemoteProtocolError)


@pytest.mark.parametrize("gracefully", [True, False], ids=["stopped", "killed"])
async def test_follower_that_comes_back_after_a_restart_is_never_fooled(tmp_path, gracefully):
    async with FakeOllama(models=["a"]) as fake:
        foreman = Process(tmp_path, fake.url, drain_timeout="10ms")
        try:
            with fake.hold("a", after=2) as gate:
                async with httpx.AsyncClient(base_url=await foreman.start(), timeout=PATIENCE_S) as client:
                    job = {"model": "a", "messages": [{"role": "user", "content": TEXT}]}
                    job_id = (await client.post("/jobs", json=job)).json()["job_id"]
                    await gate.reached()
                    async with follow(client, job_id) as followed:
                        await followed.heard(2)
                        await (end_of(foreman) if gracefully else foreman.kill())
                        await followed.all()
                        assert followed.broken is not None
            async with httpx.AsyncClient(base_url=await foreman.start(), timeout=PATIENCE_S) as client:
                lines = await all_of(client, job_id, run=1, offset=2)
                assert (markers(lines), said(lines)) == (["run 2"], TEXT)
                assert markers(lines[:1]) == ["run 2"]
                assert said(await all_of(client, job_id, run=2, offset=2)) == " three four five six"
        finally:
            await foreman.kill()


async def end_of(foreman: Process) -> None:
    """A stop in good order."""
    foreman.signal(15)
    assert await foreman.ended() == 0


async def test_no_line_is_shown_before_its_run_is_in_the_log(tmp_path):
    async with FakeOllama(models=["a"]) as fake, running(tmp_path, fake.url) as foreman:
        with fake.hold("a", after=1) as gate:
            await foreman.submit("a", "first")
            await gate.reached()
            job_id = await foreman.submit("a", TEXT)
            async with follow(foreman.client, job_id) as followed:
                with contextlib.closing(sqlite3.connect(tmp_path / "foreman.db", isolation_level=None)) as other:
                    other.execute("BEGIN IMMEDIATE")  # from here on foreman cannot commit
                    gate.release()
                    await ended(foreman.foreman.tails.open(job_id))
                    await foreman.client.get("/healthz")
                    assert followed.lines == []
                    assert (await foreman.job(job_id)).state is State.QUEUED
                    other.execute("ROLLBACK")
                assert said(await followed.all()) == TEXT


async def ended(tail: Tail) -> None:
    """Wait until the target has said all."""
    async with asyncio.timeout(PATIENCE_S):
        with tail.watch() as changed:
            while tail.run.ending is None:
                changed.clear()
                await changed.wait()
