"""Snapshots: a start folds only what came after one, and drops one of another version."""

from __future__ import annotations

import pytest

from foreman.events.types import JobClass
from foreman.projections import snapshots, timeline
from foreman.projections.statistics import Figures, Statistics
from foreman.projections.tally import Tally
from foreman.projections.timeline import Timeline
from foreman.storage.database import Statement
from tests.core import opened, submit


async def test_statistics_start_from_the_snapshot_and_fold_what_came_after(tmp_path):
    async with opened(tmp_path) as core:
        await core.do(submit(), submit(), submit(load_key="b", job_class=JobClass.INTERACTIVE))
        # Told apart from a fold of the whole log by a key that the log does not hold.
        claimed = Statistics(position=2, by_key={"c": Figures()})
        await core.database.transact([Statement(snapshots.UPSERT, [snapshots.row(claimed)])])
        assert list((await snapshots.statistics_now(core.database.read)).by_key) == ["c", "b"]


async def test_snapshot_of_another_version_is_dropped_and_the_log_folded_anew(tmp_path):
    async with opened(tmp_path) as core:
        await core.do(submit(), submit(), submit())
        row = ("statistics", Statistics.VERSION + 1, 2, '{"shape":"unknown"}')
        await core.database.transact([Statement(snapshots.UPSERT, [row])])
        assert await snapshots.statistics_now(core.database.read) == core.ledger.statistics


async def test_newer_snapshot_replaces_the_older(tmp_path):
    async with opened(tmp_path) as core:
        for position in (1, 2):
            row = snapshots.row(Statistics(position=position))
            await core.database.transact([Statement(snapshots.UPSERT, [row])])
        assert await core.database.read("SELECT position FROM snapshots") == [(2,)]


async def test_statistics_of_an_empty_log_are_empty(tmp_path):
    async with opened(tmp_path) as core:
        assert await snapshots.statistics_now(core.database.read) == Statistics()


async def test_timeline_starts_from_its_snapshot_and_folds_what_came_after(tmp_path):
    async with opened(tmp_path) as core:
        await core.do(submit(), submit(), submit())
        claimed = Timeline(position=2)
        claimed.minutes.at(core.clock.now()).submitted = 100
        await core.database.transact([Statement(snapshots.UPSERT, [snapshots.row(claimed)])])
        (bucket,) = (await snapshots.timeline_now(core.database.read)).until(core.clock.now(), 60, 1)
        assert bucket.submitted == 101


async def test_timeline_without_a_snapshot_of_its_version_is_folded_anew(tmp_path):
    async with opened(tmp_path) as core:
        await core.do(submit(), submit(), submit())
        row = ("timeline", Timeline.VERSION + 1, 2, '{"shape":"unknown"}')
        await core.database.transact([Statement(snapshots.UPSERT, [row])])
        assert await snapshots.timeline_now(core.database.read) == core.ledger.timeline


UNREADABLE = {
    "cut off": '{"position":2,',
    "of another shape": "[]",
    "with a text for a number": '{"position":"2"}',
    "nested too deeply": '{"position":2,"more":' + "[" * 5_000 + "]" * 5_000 + "}",
    "of another position": None,
}


@pytest.mark.parametrize("kind", [Statistics, Tally, Timeline])
@pytest.mark.parametrize("text", UNREADABLE.values(), ids=UNREADABLE)
async def test_snapshot_that_cannot_be_read_is_one_that_was_not_taken(tmp_path, kind, text):
    async with opened(tmp_path) as core:
        await core.do(submit(), submit(), submit())
        row = (kind.NAME, kind.VERSION, 2, text or kind(position=1).dump())
        await core.database.transact([Statement(snapshots.UPSERT, [row])])
        states = await snapshots.states_now(core.database.read)
        assert states == (core.ledger.statistics, core.ledger.tally, core.ledger.timeline)


def test_bucket_with_a_figure_too_few_is_no_timeline():
    with pytest.raises(ValueError, match="figures"):
        timeline.load('{"position":1,"minutes":[[1,2]],"hours":[]}')


@pytest.mark.parametrize("late", [Statistics, Tally, Timeline])
async def test_snapshots_reach_as_far_as_the_one_that_is_furthest_behind(tmp_path, late):
    async with opened(tmp_path) as core:
        kinds = [Statistics, Tally, Timeline]
        rows = [snapshots.row(kind(position=3 if kind is late else 7)) for kind in kinds]
        await core.database.transact([Statement(snapshots.UPSERT, rows)])
        assert await snapshots.taken_at(core.database.read) == 3
        await core.database.transact([Statement("DELETE FROM snapshots WHERE projection = ?", [(late.NAME,)])])
        assert await snapshots.taken_at(core.database.read) == 0
