"""A full disk: nothing is accepted that cannot be kept, nothing that was accepted is lost, and the daemon lives on."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import asynccontextmanager

from foreman.fsm.job import State
from tests.fakes.ollama import FakeOllama
from tests.kit import Running, running

#: More than the pages that a database has to spare.
LONG = "word " * 12_000


@asynccontextmanager
async def full_disk(foreman: Running):
    """SQLite finds no room for one more page until the end of the block."""
    database = foreman.foreman.database
    ((pages,),) = await database.read_as_writer("PRAGMA page_count")
    await database.read_as_writer(f"PRAGMA max_page_count = {pages}")
    yield
    if database._writer is not None:  # not stopped meanwhile
        await database.read_as_writer("PRAGMA max_page_count = 1000000")


async def test_job_that_cannot_be_kept_is_refused(tmp_path):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url) as foreman:
        await foreman.until(lambda: foreman.foreman.inventory.up)
        async with full_disk(foreman):
            position = foreman.foreman.ledger.feed.position
            body = {"model": "a", "messages": [{"role": "user", "content": LONG}]}
            for path in ("/jobs", "/api/chat"):
                answer = await foreman.client.post(path, json=body)
                assert (answer.status_code, answer.json()["code"]) == (503, "storage_full")
                assert "free some space" in answer.json()["hint"]
                assert answer.headers["retry-after"]
            assert foreman.foreman.ledger.feed.position == position
        assert position == (await foreman.events())[-1].position
        assert (len(fake.calls_of()), len(foreman.foreman.tails)) == (0, 0)
        job_id = await foreman.submit("a", LONG)
        await foreman.until_state(job_id, State.DONE)


async def test_answer_is_kept_until_there_is_room_for_it(tmp_path):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url) as foreman:
        with fake.hold("a") as gate:
            job_id = await foreman.submit("a", LONG)
            await gate.reached()
            await foreman.until_state(job_id, State.WORKING)
            async with full_disk(foreman):
                gate.release()
                await fake.wait_for(lambda: fake.calls_of()[0].finished_at)
                assert (await foreman.client.post("/jobs", content=b"{}")).status_code == 400
                attempt, _ = foreman.foreman.worker._attempts[job_id]
                async with asyncio.timeout(10):
                    while attempt.phase != "recording":
                        await asyncio.sleep(0)
                assert (await foreman.job(job_id)).state is State.WORKING
        await foreman.until_state(job_id, State.DONE)
        answer = (await foreman.client.get(f"/jobs/{job_id}/artifacts/completion")).json()
        assert answer["message"]["content"] == LONG.strip()
        assert len(fake.calls_of()) == 1


async def test_one_refused_for_space_takes_no_other_down(tmp_path):
    async with FakeOllama(["a"], tokens=1) as fake, running(tmp_path, fake.url) as foreman:
        async with full_disk(foreman):
            body = {"model": "a", "messages": [{"role": "user", "content": LONG}]}
            answers = await asyncio.gather(*(foreman.client.post("/jobs", json=body) for _ in range(20)))
            assert {answer.status_code for answer in answers} == {503}
        answers = await asyncio.gather(*(foreman.client.post("/jobs", json=body) for _ in range(20)))
        jobs = await foreman.until_finished(*(answer.json()["job_id"] for answer in answers))
        assert {job.state for job in jobs} == {State.DONE}


async def test_foreman_with_a_full_disk_stops_in_good_order(tmp_path):
    async with FakeOllama(["a"]) as fake:
        with fake.hold("a") as gate:
            async with running(tmp_path, fake.url) as foreman:
                job_id = await foreman.submit("a", LONG)
                await gate.reached()
                await foreman.until_state(job_id, State.WORKING)
                async with full_disk(foreman):
                    gate.release()
                    await foreman.foreman.stop()
        async with running(tmp_path, fake.url) as foreman:
            assert (await foreman.until_state(job_id, State.DONE)).interruptions == 1


async def test_full_disk_lets_no_answers_pile_up_in_memory(tmp_path):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url) as foreman:
        with fake.hold("a") as gate:
            jobs = [await foreman.submit("a", LONG) for _ in range(4)]
            await gate.reached()
            await foreman.until_state(jobs[0], State.WORKING)
            async with full_disk(foreman):
                gate.release()
                worker = foreman.foreman.worker
                # The second was started before it showed that the first one's answer finds no room.
                async with asyncio.timeout(10):
                    while [attempt.waits_for_space for attempt, _ in worker._attempts.values()] != [True, True]:
                        await asyncio.sleep(0)
                assert len(fake.calls_of()) <= 2
        assert {job.state for job in await foreman.until_finished(*jobs)} == {State.DONE}
        assert len(fake.calls_of()) == 4


async def test_job_whose_request_is_lost_fails_and_keeps_no_other_waiting(tmp_path):
    async with FakeOllama(["a"]) as fake:
        async with running(tmp_path, fake.url) as foreman:
            with fake.hold("a") as gate:
                running_id, lost_id, kept_id = [await foreman.submit("a", text) for text in ("one", "two", "three")]
                await gate.reached()
                await foreman.foreman.stop()
        changed = sqlite3.connect(tmp_path / "foreman.db")
        changed.execute("DELETE FROM artifacts WHERE job_id = ?", (lost_id,))
        changed.commit()
        changed.close()
        async with running(tmp_path, fake.url) as foreman:
            jobs = await foreman.until_finished(running_id, lost_id, kept_id)
    assert [job.state for job in jobs] == [State.DONE, State.FAILED, State.DONE]
    assert "request is not there" in (jobs[1].error or "")
