"""Snapshots: a start folds only what came after one, and drops one of another version."""

from __future__ import annotations

from foreman.projections import snapshots
from foreman.projections.statistics import Statistics
from foreman.storage.database import Statement
from tests.core import opened, submit


async def test_statistics_start_from_the_snapshot_and_fold_what_came_after(tmp_path):
    async with opened(tmp_path) as core:
        await core.do(submit(), submit(), submit())
        # Told apart from a fold of the whole log by a count that the log does not hold.
        claimed = Statistics(position=2, queued=100, last_arrived="a")
        await core.database.transact([Statement(snapshots.UPSERT, [snapshots.row(claimed)])])
        assert (await snapshots.statistics_now(core.database.read)).queued == 101


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
