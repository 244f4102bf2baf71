"""The daemon after `foreman compact`: what it still tells of events that were moved, over HTTP and in a follower."""

from __future__ import annotations

import pytest
from ulid import ULID

from foreman.archive.compact import compact, plan
from foreman.clock import Micros, SystemClock
from foreman.commands.schema import MIGRATIONS
from foreman.commands.types import ExpireJob, Note
from foreman.storage.database import Database
from foreman.storage.still import still
from tests.core import DEGRADED
from tests.fakes.ollama import FakeOllama
from tests.integration.events_kit import follow
from tests.kit import Running, running


@pytest.fixture
async def fake():
    async with FakeOllama(models=["a"]) as fake:
        yield fake


async def lived(tmp_path, fake) -> tuple[list[str], int]:
    """Two jobs, of which the first has expired and is in an archive; the last archived position."""
    async with running(tmp_path, fake.url) as foreman:
        jobs = []
        for _ in range(2):
            jobs.append(await foreman.submit())
            await foreman.until_finished(jobs[-1])
            await foreman.foreman.ledger.execute(Note(event=DEGRADED))
        await foreman.foreman.ledger.execute(ExpireJob(job_id=jobs[0]))
    path = tmp_path / "foreman.db"
    with still(path) as file:
        planned = plan(file, Micros(SystemClock().now() + 1_000_000))
    database = Database(path, MIGRATIONS)
    await database.open()
    archive = await compact(database, planned, tmp_path / "archive", lambda _: None)
    await database.close()
    assert archive is not None
    return jobs, archive.last


async def get(foreman: Running, path: str, **params) -> tuple[int, dict]:
    answer = await foreman.client.get(path, params=params)
    return answer.status_code, answer.json()


async def test_pages_begin_where_the_table_does_and_say_what_is_elsewhere(tmp_path, fake):
    _, last = await lived(tmp_path, fake)
    async with running(tmp_path, fake.url) as foreman:
        _, page = await get(foreman, "/events")
        assert page["events"][0]["position"] == last + 1
        status, said = await get(foreman, "/events", after=last - 1)
        assert (status, said["code"]) == (410, "events_archived")
        assert f"up to position {last} " in said["error"]
        assert "archive/events-" in said["error"]
        assert (await get(foreman, "/events", after=last))[0] == 200


async def test_a_job_that_is_kept_has_its_whole_history_and_an_archived_one_says_where(tmp_path, fake):
    (old, kept), _ = await lived(tmp_path, fake)
    async with running(tmp_path, fake.url) as foreman:
        _, history = await get(foreman, f"/jobs/{kept}/events")
        assert [event["version"] for event in history["events"]] == [*range(1, len(history["events"]) + 1)]
        assert (await get(foreman, "/events", job=kept, after=0))[1]["events"] == history["events"]
        assert (await get(foreman, f"/jobs/{old}/events"))[1]["code"] == "events_archived"
        assert (await get(foreman, "/events", job=old, after=0))[1]["code"] == "events_archived"
        assert (await get(foreman, "/events", job=old))[1]["code"] == "events_archived"
        assert (await get(foreman, "/events", job=kept))[1]["events"] == history["events"]
        # It is not forgotten: the row stays, and says what it said before.
        assert (await get(foreman, f"/jobs/{old}"))[1]["code"] == "job_expired"
        assert [job["job_id"] for job in (await get(foreman, "/jobs"))[1]["jobs"]] == [kept, old]
        assert (await get(foreman, f"/jobs/{ULID()}/events"))[1]["code"] == "job_not_found"


async def test_a_follower_from_before_is_told_and_goes_on_from_the_border(tmp_path, fake):
    _, last = await lived(tmp_path, fake)
    async with running(tmp_path, fake.url) as foreman, follow(foreman.client, last_id=last - 2) as followed:
        reset, first = (await followed.heard(2))[:2]
        assert (reset.event, reset.id, reset.data["reason"]) == ("reset", str(last), "archived")
        assert reset.data["archive"].startswith("archive/events-")
        assert int(first.id) == last + 1


async def test_the_daemon_goes_on_after_it(tmp_path, fake):
    _, last = await lived(tmp_path, fake)
    async with running(tmp_path, fake.url) as foreman:
        await foreman.until_finished(await foreman.submit())
        positions = [event.position for event in await foreman.events()]
        assert positions == [*range(last + 1, last + 1 + len(positions))]
