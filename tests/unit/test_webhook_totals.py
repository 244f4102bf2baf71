"""What came of attempts is counted where they are written, from before the count existed until after they are gone."""

from __future__ import annotations

import pytest

from foreman.commands.schema import MIGRATIONS
from foreman.commands.types import CancelJob, ExpireJob, RecordAttempt, Redeliver
from foreman.events.types import CancelledBy
from foreman.projections import webhook_totals
from foreman.projections.outbox import Attempt, Attempted, Status
from foreman.storage.database import Database, Statement
from tests.core import WEBHOOK, opened

#: An attempt for each result, and what becomes of its delivery.
ATTEMPTS = {
    "delivered": (Attempt(at=1, duration=1, address="a:1", status=200), Status.DELIVERED),
    "failed": (Attempt(at=1, duration=1, address="a:1", status=500, error="no"), Status.PENDING),
    "not_sent": (Attempt(at=1, duration=1, error="not allowed"), Status.PENDING),
    "gone": (Attempt(at=1, duration=1, address="a:1", status=410, error="gone"), Status.GONE),
}
NOTHING = dict.fromkeys((*webhook_totals.RESULTS, "dead"), 0)


@pytest.mark.parametrize("result", webhook_totals.RESULTS)
async def test_an_attempt_is_counted_by_its_result_and_outlives_its_row(tmp_path, result):
    async with opened(tmp_path) as core:
        job_id = await core.submitted(webhook=WEBHOOK)
        attempt, status = ATTEMPTS[result]
        attempted = Attempted(job_id=job_id, position=1, attempt=attempt, status=status)
        await core.do(RecordAttempt(job_id=job_id, attempted=attempted), CancelJob(job_id=job_id, by=CancelledBy.API))
        await core.do(ExpireJob(job_id=job_id))
        assert await core.database.read("SELECT * FROM delivery_attempts") == []
        assert await webhook_totals.totals(core.database.read) == {**NOTHING, result: 1}


@pytest.mark.parametrize("end", ["expired", "asked for again"])
async def test_dead_deliveries_are_counted_while_they_are_dead(tmp_path, end):
    async with opened(tmp_path) as core:
        job_id = await core.submitted(webhook=WEBHOOK)
        attempt = ATTEMPTS["failed"][0]
        dead = Attempted(job_id=job_id, position=1, attempt=attempt, status=Status.DEAD)
        await core.do(RecordAttempt(job_id=job_id, attempted=dead), RecordAttempt(job_id=job_id, attempted=dead))
        assert await webhook_totals.totals(core.database.read) == {**NOTHING, "failed": 1, "dead": 1}
        if end == "expired":
            await core.do(CancelJob(job_id=job_id, by=CancelledBy.API), ExpireJob(job_id=job_id))
        else:
            await core.do(Redeliver(job_id=job_id, positions=(1,)))
        assert (await webhook_totals.totals(core.database.read))["dead"] == 0


async def test_attempts_from_before_the_count_are_counted_by_its_migration(tmp_path):
    before = MIGRATIONS[: MIGRATIONS.index(webhook_totals.SCHEMA)]
    old = Database(tmp_path / "foreman.db", before)
    await old.open()
    rows = [
        (number, 1, attempt.at, attempt.duration, attempt.address, attempt.status, attempt.reply, attempt.error)
        for number, (attempt, _) in enumerate(ATTEMPTS.values())
    ]
    await old.transact([Statement("INSERT INTO delivery_attempts VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)])
    await old.close()
    async with opened(tmp_path) as core:
        assert await webhook_totals.totals(core.database.read) == {**dict.fromkeys(ATTEMPTS, 1), "dead": 0}


async def test_dead_deliveries_are_counted_by_receiver_among_the_newest_of_them(tmp_path):
    row = "INSERT INTO deliveries VALUES (?, 'J', 1, 'done', ?, ?, 12, 12, 0, 1)"
    most = webhook_totals.NEWEST_DEAD
    async with opened(tmp_path) as core:
        rows = [(number, f"r{number % 3}:80", "dead") for number in range(1, most + 100)]
        delivered = [(number, "r1:80", "delivered") for number in range(most + 100, most + 200)]
        await core.database.transact([Statement(row, [*rows, *delivered])])
        found = await webhook_totals.dead_by_receiver(core.database.read)
        plan = await core.database.read(f"EXPLAIN QUERY PLAN {webhook_totals.SELECT_DEAD}", (most,))
    newest = rows[-most:]
    assert found == {
        receiver: (sum(one[1] == receiver for one in newest), max(one[0] for one in newest if one[1] == receiver))
        for receiver in ("r0:80", "r1:80", "r2:80")
    }
    # A million of them cost no more than these.
    assert any("USING INDEX deliveries_by_status (status=?)" in step[-1] for step in plan)


async def test_a_row_that_somebody_removed_counts_as_none(tmp_path):
    async with opened(tmp_path) as core:
        await core.database.transact([Statement("DELETE FROM webhook_totals WHERE name = 'failed'", [()])])
        assert await webhook_totals.totals(core.database.read) == NOTHING
