"""The jobs table: views there and back, pages by any filter, and what is due to be removed."""

from __future__ import annotations

import dataclasses
import re
import sqlite3

import pytest
from msgspec.structs import replace

from foreman.clock import Micros
from foreman.commands.schema import MIGRATIONS
from foreman.commands.types import CancelJob, ExpireJob, RecordAttempt, StartWorking
from foreman.errors import ViewCorrupt
from foreman.events.types import CancelledBy, Endpoint, JobClass, Position, Source
from foreman.fsm.job import State
from foreman.projections import jobs
from foreman.projections.jobs import JobFilter
from foreman.projections.outbox import Attempted, Status
from foreman.storage.database import Database
from tests.core import HISTORIES, SAMPLES, SELECTIVE, job_after, opened, submit

INTERACTIVE = {
    "model": "b",
    "job_class": JobClass.INTERACTIVE,
    "source": Source.SYNC,
    "endpoint": Endpoint.GENERATE,
}


def cancel(job_id: str) -> CancelJob:
    return CancelJob(job_id=job_id, by=CancelledBy.API)


async def ids(core, **wanted) -> str:
    return "".join(job.job_id for job in await jobs.page(core.database.read, JobFilter(**wanted)))


@pytest.mark.parametrize("state", [state for state in State if state is not State.NEW])
def test_view_comes_back_as_it_was_stored(state):
    job = job_after(*HISTORIES[state])
    assert jobs.from_view(jobs.row(job)[-1]) == job


def test_view_with_every_member_set_comes_back_as_it_was_stored():
    queued, loading, working, requeued, done, *_ = SAMPLES
    job = replace(job_after(queued, loading, working, requeued, loading, working, done), interruptions=2)
    assert jobs.from_view(jobs.row(job)[-1]) == job


def numbers_of(view: str) -> list[str]:
    """Each whole number of a view, as the text around it."""
    return re.findall(r'"[a-z_]+":[0-9]+(?=[,}])', view)


def test_view_with_a_number_past_any_that_json_writers_take_is_no_view():
    queued, loading, working, requeued, done, *_ = SAMPLES
    for events in ((queued, loading, working, requeued), (queued, loading, working, done)):
        sound = jobs.row(job_after(*events))[-1]
        for number in numbers_of(sound):
            with pytest.raises(ViewCorrupt):
                jobs.from_view(sound.replace(number, number + "9" * 30))


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({}, "EDCBA"),
        ({"limit": 2}, "ED"),
        ({"before": 3, "limit": 1}, "B"),
        ({"states": (State.QUEUED,)}, "EC"),
        ({"states": (State.CANCELLED, State.WORKING)}, "DBA"),
        ({"states": ()}, ""),
        ({"model": "b"}, "ED"),
        ({"job_class": "interactive"}, "ED"),
        ({"source": "async"}, "CBA"),
        ({"endpoint": "generate"}, "ED"),
        ({"model": "b", "states": (State.QUEUED,), "before": 5}, ""),
        ({"model": "a' OR '1'='1"}, ""),
    ],
    ids=str,
)
async def test_page_holds_what_the_filter_asks_for_newest_first(tmp_path, wanted, found):
    async with opened(tmp_path) as core:
        await core.do(submit("A"), submit("B"), submit("C"), submit("D", **INTERACTIVE), submit("E", **INTERACTIVE))
        await core.do(cancel("A"), StartWorking(job_id="B"), StartWorking(job_id="D"))
        assert await ids(core, **wanted) == found


async def test_unfinished_jobs_are_found_oldest_first(tmp_path):
    async with opened(tmp_path) as core:
        await core.do(submit("C"), submit("A"), submit("B"), StartWorking(job_id="A"), cancel("B"))
        assert [job.job_id for job in await jobs.active(core.database.read)] == ["C", "A"]


async def test_jobs_are_found_by_id_and_unknown_ones_are_none(tmp_path):
    async with opened(tmp_path) as core:
        await core.do(submit("A"), submit("B"))
        assert (await jobs.find(core.database.read, "A")).job_id == "A"
        assert await jobs.find(core.database.read, "Z") is None
        found = await jobs.find_many(core.database.read, ["B", "Z", "A"])
        assert sorted(job.job_id for job in found) == ["A", "B"]


async def overdue_jobs(core, before: int, at_last: int, limit: int = 10) -> str:
    """The jobs that ended before that time; with deliveries pending, those that ended before the other."""
    rows = await core.database.read(jobs.SELECT_OVERDUE, (before, at_last, limit))
    return "".join(job_id for (job_id,) in rows)


async def test_jobs_are_due_for_removal_by_the_time_they_ended_and_once(tmp_path):
    async with opened(tmp_path) as core:
        await core.do(submit("A"), submit("B"), submit("C"))
        for job_id in "BA":
            core.clock.at += 1_000_000
            await core.do(cancel(job_id))

        async def overdue(before: int, limit: int = 10) -> str:
            return await overdue_jobs(core, before, 0, limit)

        ended = core.clock.at
        assert [await overdue(at) for at in (ended - 1_000_000, ended, ended + 1)] == ["", "B", "BA"]
        assert await overdue(ended + 1, limit=1) == "B"
        await core.do(ExpireJob(job_id="B"))
        assert await overdue(Micros(ended + 1)) == "A"


async def test_job_with_something_to_tell_yet_is_due_only_at_the_last(tmp_path):
    async with opened(tmp_path) as core:
        await core.do(submit("A", webhook=SELECTIVE), submit("B", webhook=SELECTIVE), submit("C"))
        await core.do(cancel("A"), cancel("B"), cancel("C"))
        later = core.clock.at + 1
        assert await overdue_jobs(core, later, 0) == "C"
        assert sorted(await overdue_jobs(core, later, later)) == ["A", "B", "C"]
        ended = Attempted(job_id="A", position=Position(1), attempt=None, status=Status.DEAD)
        await core.do(RecordAttempt(job_id="A", attempted=ended))
        assert await overdue_jobs(core, later, 0) == "C"  # its last state is not told yet
        await core.do(RecordAttempt(job_id="A", attempted=dataclasses.replace(ended, position=Position(4))))
        assert sorted(await overdue_jobs(core, later, 0)) == ["A", "C"]


async def test_search_for_what_is_due_looks_into_the_deliveries_of_each_job_alone(tmp_path):
    async with opened(tmp_path) as core:
        plan = await core.database.read(f"EXPLAIN QUERY PLAN {jobs.SELECT_OVERDUE}", (1, 1, 10))
        (deliveries,) = [step for *_, step in plan if "deliveries" in step]
        assert deliveries == "SEARCH deliveries USING INDEX deliveries_by_job (job_id=?)"


async def test_views_of_the_first_schema_are_taken_over(tmp_path):
    path = tmp_path / "foreman.db"
    stored = [
        replace(job_after(*HISTORIES[State.DONE]), job_id=name, order=Position(number))
        for number, name in enumerate("ba", 1)
    ]
    first = sqlite3.connect(path)
    for script in MIGRATIONS[:4]:
        first.executescript(script)
    first.execute("PRAGMA user_version = 4")
    first.executemany(jobs.UPSERT, map(jobs.row, stored))
    first.commit()
    first.close()
    database = Database(path, MIGRATIONS)
    await database.open()
    assert await jobs.page(database.read, JobFilter()) == stored[::-1]
    assert await jobs.find(database.read, "b") == stored[0]
    await database.close()
