"""The log's table: append-only, without gaps, and read back in order; what it cannot read it names."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from foreman.clock import Micros
from foreman.commands.types import CancelJob, Note, StartWorking
from foreman.errors import LogCorrupt, UnknownEvent
from foreman.events import log
from foreman.events.codec import GENESIS
from foreman.events.types import CancelledBy
from tests.core import DEGRADED, audit, opened, submit


@pytest.fixture
async def filled(tmp_path):
    """A file with five events in two jobs' streams and the daemon's."""
    async with opened(tmp_path) as core:
        await core.do(submit("A"), submit("B"), Note(event=DEGRADED))
        await core.do(StartWorking(job_id="A"), CancelJob(job_id="A", by=CancelledBy.API))
    return tmp_path


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE events SET data = '{}' WHERE position = 1",
        "UPDATE events SET position = 99 WHERE position = 5",
        "DELETE FROM events WHERE position = 5",
        "DELETE FROM events",
    ],
)
async def test_log_refuses_to_be_changed(filled, statement):
    with (
        closing(sqlite3.connect(filled / "foreman.db")) as stranger,
        pytest.raises(sqlite3.IntegrityError, match="the event log is append-only"),
    ):
        stranger.execute(statement)
    async with opened(filled) as core:
        assert len(await audit(core)) == 5


@pytest.mark.parametrize(("position", "version"), [(5, 9), (99, 3)], ids=["position", "version in the stream"])
async def test_place_in_the_log_is_given_once(filled, position, version):
    with (
        closing(sqlite3.connect(filled / "foreman.db")) as stranger,
        pytest.raises(sqlite3.IntegrityError, match="UNIQUE"),
    ):
        stranger.execute(log.INSERT, (position, "A", version, "job.expired", 1, "{}", b""))


async def test_positions_and_versions_have_no_gaps(filled):
    async with opened(filled) as core:
        await core.do(CancelJob(job_id="B", by=CancelledBy.API), Note(event=DEGRADED))
        events = await audit(core)
    assert [item.position for item in events] == [1, 2, 3, 4, 5, 6, 7]
    assert [item.version for item in events if item.stream == "daemon"] == [1, 2]
    assert [item.version for item in events if item.stream == "A"] == [1, 2, 3]


async def test_head_of_an_empty_log_is_the_genesis(tmp_path):
    async with opened(tmp_path) as core:
        assert await log.head(core.database.read) == (0, GENESIS)


async def test_head_is_the_last_events_place_and_hash(filled):
    async with opened(filled) as core:
        events = await audit(core)
        assert await log.head(core.database.read) == (5, events[-1].hash)


async def test_log_is_read_in_pages(filled):
    async with opened(filled) as core:
        pages = [await log.after(core.database.read, position, 2) for position in (0, 2, 4, 5)]
    assert [[item.position for item in page] for page in pages] == [[1, 2], [3, 4], [5], []]


async def test_one_stream_is_read_in_its_own_order(filled):
    async with opened(filled) as core:
        events = await log.of_stream(core.database.read, "A", 1, 10)
        assert [(item.version, item.event.type) for item in events] == [(2, "job.working"), (3, "job.cancelled")]
        assert len(await log.of_stream(core.database.read, "A", 0, 2)) == 2


@pytest.mark.parametrize(
    ("type_", "text", "error"),
    [
        ("job.vanished", "{}", UnknownEvent),
        ("job.expired", '{"v":2}', UnknownEvent),
        ("job.expired", "garbage", LogCorrupt),
    ],
    ids=["unknown type", "future version", "garbage"],
)
async def test_start_on_a_log_that_cannot_be_read_says_what_it_found(filled, type_, text, error):
    with closing(sqlite3.connect(filled / "foreman.db")) as stranger:
        stranger.execute(log.INSERT, (6, "A", 4, type_, 1, text, b""))
        stranger.commit()
    with pytest.raises(error, match=type_):
        async with opened(filled):
            pass


@pytest.mark.parametrize(("at", "position"), [(0, 1), (10, 1), (11, 2), (20, 2), (21, 4), (30, 4), (31, 6)])
async def test_time_leads_to_the_first_event_that_is_not_earlier(tmp_path, at, position):
    async with opened(tmp_path) as core:
        for core.clock.at, many in ((10, 1), (20, 2), (30, 2)):
            await core.do(*[Note(event=DEGRADED)] * many)
        assert await log.position_at(core.database.read, Micros(at)) == position


async def test_time_in_an_empty_log_leads_to_where_it_will_begin(tmp_path):
    async with opened(tmp_path) as core:
        assert await log.position_at(core.database.read, Micros(5)) == 1


async def test_clock_that_leapt_back_leads_to_some_event_of_the_log(tmp_path):
    async with opened(tmp_path) as core:
        for core.clock.at in (10, 50, 20, 60, 30):
            await core.do(Note(event=DEGRADED))
        assert [await log.position_at(core.database.read, Micros(at)) for at in (5, 70)] == [1, 6]
        assert 1 <= await log.position_at(core.database.read, Micros(25)) <= 6
