"""The ledger on a real database: group commit, refusals, a full disk, an unknown commit, keys, restarts, the end."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from contextlib import closing

import pytest
from msgspec.structs import replace

from foreman.commands.ledger import KEPT_JOBS, MAX_BATCH, SNAPSHOT_EVERY, Outcome
from foreman.commands.types import CancelJob, ExpireJob, FinishJob, Note, RecordAttempt, StartLoading, StartWorking
from foreman.errors import (
    CommitUnknown,
    Draining,
    IdempotencyMismatch,
    IllegalTransition,
    JobNotFound,
    QueueFull,
    RequestInvalid,
    StorageFull,
)
from foreman.events.feed import OUTBOX
from foreman.events.types import CancelledBy
from foreman.fsm.job import State
from foreman.projections.contents import artifact
from foreman.projections.job import Metrics
from foreman.projections.outbox import Attempt, Attempted, Status
from tests.core import ANSWER, DEGRADED, STREAM, WEBHOOK, audit, new_id, open_core, opened, submit

#: A request that needs more pages than a full disk has left.
LARGE = artifact("request", "application/json", b"x" * 100_000)


def cancel(job_id: str) -> CancelJob:
    return CancelJob(job_id=job_id, by=CancelledBy.API)


def finish(job_id: str) -> FinishJob:
    return FinishJob(job_id=job_id, metrics=Metrics(), artifacts=(ANSWER, STREAM))


async def test_life_of_a_job_is_recorded_and_its_contents_kept(tmp_path):
    async with opened(tmp_path) as core:
        job_id = await core.submitted()
        for command in (
            StartLoading(job_id=job_id, evicts=None),
            StartWorking(job_id=job_id, swapped=True, load_s=1.0),
        ):
            await core.ledger.execute(command)
        outcome = await core.ledger.execute(finish(job_id))
        assert outcome.jobs[0].state is State.DONE
        assert await core.types(job_id) == ["job.queued", "job.loading", "job.working", "job.done"]
        await audit(core)


async def test_commands_that_come_together_share_one_transaction(tmp_path):
    async with opened(tmp_path) as core:
        await core.do(*(submit() for _ in range(MAX_BATCH)))
        assert core.database.transactions == 1
        assert len(await audit(core)) == MAX_BATCH


async def test_commands_beyond_a_batch_wait_for_the_next_in_order(tmp_path):
    async with opened(tmp_path, max_queue=2_000) as core:
        ids = [new_id() for _ in range(2 * MAX_BATCH + 1)]
        await core.do(*map(submit, ids))
        assert core.database.transactions == 3
        assert [item.stream for item in await audit(core)] == ids


async def test_commands_that_come_during_a_commit_share_the_next(tmp_path):
    async with opened(tmp_path) as core:
        late: list[asyncio.Task[Outcome]] = []

        def hear(_):
            if not late:
                late.extend(asyncio.create_task(core.ledger.execute(submit())) for _ in range(50))

        core.ledger.feed.listeners.append(hear)
        await core.submitted()
        await asyncio.gather(*late)
        assert core.database.transactions == 2


async def test_command_that_changes_nothing_costs_no_transaction(tmp_path):
    async with opened(tmp_path) as core:
        job_id = await core.submitted()
        await core.ledger.execute(cancel(job_id))
        before = core.database.transactions
        outcome = await core.ledger.execute(cancel(job_id))
        assert (outcome.recorded, outcome.jobs[0].state) == ((), State.CANCELLED)
        assert core.database.transactions == before


async def test_consumer_of_the_outbox_is_woken_once_there_is_something_durable_to_tell(tmp_path):
    async with opened(tmp_path) as core:
        with core.ledger.feed.watch(OUTBOX) as woken:
            first = await core.submitted()
            assert not woken.is_set()
            await core.submitted("A", webhook=WEBHOOK)
            assert woken.is_set()
            woken.clear()
            await core.do(cancel(first))
            assert not woken.is_set()


async def test_full_disk_tells_nobody_and_leaves_the_outbox_as_it_was(tmp_path):
    async with opened(tmp_path) as core:
        await core.submitted("A", webhook=WEBHOOK)
        taken = core.ledger.outbox.take(core.clock.now(), lambda _receiver: True)
        attempt = Attempt(at=core.clock.now(), duration=1, reply="x" * 100_000)
        outcome = Attempted(job_id="A", position=taken.head.position, attempt=attempt, status=Status.DEAD)
        await core.limit()
        with core.ledger.feed.watch(OUTBOX) as woken:
            results = await core.do(submit(webhook=WEBHOOK, body=LARGE), RecordAttempt(job_id="A", attempted=outcome))
        assert (list(map(type, results)), woken.is_set()) == ([StorageFull] * 2, False)
        assert (core.ledger.outbox.pending, taken.taken) == (1, True)
        await audit(core)
        await core.limit(1_000)
        await core.do(RecordAttempt(job_id="A", attempted=outcome))
        assert core.ledger.outbox.lanes == {}
        await audit(core)


async def test_refused_command_fails_alone(tmp_path):
    async with opened(tmp_path) as core:
        job_id = new_id()
        results = await core.do(submit(job_id), finish(job_id), cancel("nobody"), submit(), StartWorking(job_id=job_id))
        assert list(map(type, results)) == [Outcome, IllegalTransition, JobNotFound, Outcome, Outcome]
        assert core.database.transactions == 1
        await audit(core)


async def test_request_that_no_event_can_hold_is_refused_alone(tmp_path):
    async with opened(tmp_path) as core:
        results = await core.do(submit(load_key="a num_ctx=\ud800"), submit())
        assert list(map(type, results)) == [RequestInvalid, Outcome]
        assert len(await audit(core)) == 1


async def test_outcome_shows_the_job_as_the_command_left_it(tmp_path):
    async with opened(tmp_path) as core:
        job_id = new_id()
        queued, cancelled = await core.do(submit(job_id), cancel(job_id))
        assert (queued.jobs[0].state, cancelled.jobs[0].state) == (State.QUEUED, State.CANCELLED)
        assert [item.event.type for item in queued.recorded + cancelled.recorded] == ["job.queued", "job.cancelled"]


async def test_full_disk_wakes_nobody_moves_nothing_and_passes(tmp_path):
    async with opened(tmp_path) as core:
        first = await core.submitted()
        heard = []
        core.ledger.feed.listeners.append(heard.append)
        await core.limit()
        with core.ledger.feed.watch() as woken:
            results = await core.do(submit(body=LARGE), cancel(first), Note(event=DEGRADED), StartWorking(job_id=first))
        assert list(map(type, results)) == [StorageFull] * 4
        assert (heard, woken.is_set()) == ([], False)
        assert (await core.ledger.job(first)).state is State.QUEUED
        assert len(await audit(core)) == 1
        await core.limit(1_000)
        await core.do(submit(body=LARGE), cancel(first), Note(event=DEGRADED))
        assert [item.position for item in await audit(core)] == [1, 2, 3, 4]


async def test_refusal_that_rests_on_what_did_not_become_durable_is_not_given(tmp_path):
    async with opened(tmp_path) as core:
        first = await core.submitted()
        await core.limit()
        results = await core.do(cancel(first), StartWorking(job_id=first), submit(body=LARGE))
        assert list(map(type, results)) == [StorageFull] * 3


async def test_transaction_that_cannot_be_judged_ends_the_ledger_and_everybodys_wait(tmp_path):
    async with opened(tmp_path) as core:
        first = await core.submitted()
        await core.database.read_as_writer("PRAGMA busy_timeout = 0")
        with closing(sqlite3.connect(core.database.path, isolation_level=None)) as stranger:
            stranger.execute("BEGIN IMMEDIATE")
            results = await core.do(*(cancel(first) for _ in range(MAX_BATCH)), submit(), submit())
        assert Counter(map(type, results)) == {CommitUnknown: MAX_BATCH, Draining: 2}
        await asyncio.wait({core.task})
        assert isinstance(core.task.exception(), CommitUnknown)
        assert "database is locked" in str(core.task.exception())
        with pytest.raises(Draining):
            await core.ledger.execute(submit())
        assert (await core.ledger.job(first)).state is State.QUEUED
    async with opened(tmp_path) as core:
        assert len(await audit(core)) == 1


async def test_cancelled_ledger_leaves_nobody_waiting_and_a_whole_log(tmp_path):
    core = await open_core(tmp_path / "foreman.db")
    callers = [asyncio.create_task(core.ledger.execute(submit())) for _ in range(20)]
    await asyncio.sleep(0)
    await core.crash()
    results = await asyncio.gather(*callers, return_exceptions=True)
    assert set(map(type, results)) <= {CommitUnknown, Draining}
    async with opened(tmp_path) as core:
        assert len(await audit(core)) in {0, 20}


async def test_caller_that_goes_away_does_not_undo(tmp_path):
    async with opened(tmp_path) as core:
        job_id = new_id()
        caller = asyncio.create_task(core.ledger.execute(submit(job_id)))
        await asyncio.sleep(0)
        caller.cancel()
        await core.submitted()
        assert (await core.ledger.job(job_id)).state is State.QUEUED
        assert caller.cancelled()


async def test_close_carries_out_what_was_handed_in_and_takes_no_more(tmp_path):
    async with opened(tmp_path) as core:
        handed_in = asyncio.gather(*(core.ledger.execute(submit()) for _ in range(2 * MAX_BATCH)))
        await asyncio.sleep(0)
        core.ledger.close()
        core.ledger.close()
        with pytest.raises(Draining):
            await core.ledger.execute(submit())
        assert len(await handed_in) == 2 * MAX_BATCH
        await core.task
        assert len(await audit(core)) == 2 * MAX_BATCH


async def test_ledger_closed_before_it_ran_ends_at_once(tmp_path):
    core = await open_core(tmp_path / "foreman.db")
    core.ledger.close()
    await core.task
    await core.database.close()


async def test_same_key_and_body_give_the_same_jobs(tmp_path):
    async with opened(tmp_path) as core:
        first, twin, other = await core.do(submit("A", "B", key="k"), submit("C", "D", key="k"), submit(key="other"))
        again = await core.ledger.execute(submit("E", "F", key="k"))
        for repeat in (twin, again):
            assert ([job.job_id for job in repeat.jobs], repeat.repeated, repeat.recorded) == (["A", "B"], True, ())
        assert not first.repeated
        assert not other.repeated
        assert len(await audit(core)) == 3


async def test_same_key_with_another_body_is_refused_within_a_batch_and_later(tmp_path):
    async with opened(tmp_path) as core:
        _, twin = await core.do(submit(key="k", fingerprint="f"), submit(key="k", fingerprint="g"))
        (later,) = await core.do(submit(key="k", fingerprint="g"))
        assert list(map(type, (twin, later))) == [IdempotencyMismatch] * 2


async def test_key_is_known_after_a_restart(tmp_path):
    async with opened(tmp_path) as core:
        job_id = await core.submitted(key="k")
    async with opened(tmp_path) as core:
        repeat = await core.ledger.execute(submit(key="k"))
        assert (repeat.jobs[0].job_id, repeat.repeated) == (job_id, True)


async def test_key_of_a_batch_lives_until_its_last_job_has_expired(tmp_path):
    async with opened(tmp_path) as core:
        await core.ledger.execute(submit("A", "B", key="k"))
        await core.do(cancel("A"), cancel("B"))
        await core.ledger.execute(ExpireJob(job_id="A"))
        await audit(core)
        repeat = await core.ledger.execute(submit("C", "D", key="k"))
        assert [job.job_id for job in repeat.jobs] == ["A", "B"]
        await core.ledger.execute(ExpireJob(job_id="B"))
        await audit(core)
        assert [job.job_id for job in (await core.ledger.execute(submit("E", "F", key="k"))).jobs] == ["E", "F"]


async def test_batch_beyond_the_queues_limit_is_refused_whole(tmp_path):
    async with opened(tmp_path, max_queue=3) as core:
        results = await core.do(submit("A", "B"), submit("C", "D"), submit("E"), submit("F"))
        assert list(map(type, results)) == [Outcome, QueueFull, Outcome, QueueFull]
        assert sorted(entry.job_id for entry in core.ledger.work.queue) == ["A", "B", "E"]
        await core.ledger.execute(StartWorking(job_id="A"))
        assert len((await core.ledger.execute(submit("G"))).jobs) == 1


async def test_restart_takes_up_where_the_file_stands(tmp_path):
    async with opened(tmp_path) as core:
        waiting, running, done = [await core.submitted() for _ in range(3)]
        await core.do(StartWorking(job_id=running), StartWorking(job_id=done), Note(event=DEGRADED))
        await core.ledger.execute(finish(done))
        before = core.ledger
    async with opened(tmp_path) as core:
        assert [job.job_id for job in core.unfinished] == [waiting, running]
        assert (core.ledger.feed.position, core.ledger.statistics) == (before.feed.position, before.statistics)
        await core.do(cancel(running), Note(event=DEGRADED))
        await audit(core)


async def test_snapshot_spares_a_start_the_whole_log_and_survives_a_full_disk(tmp_path):
    async with opened(tmp_path, max_queue=SNAPSHOT_EVERY) as core:
        await core.ledger.execute(submit(*(new_id() for _ in range(SNAPSHOT_EVERY))))
        await core.limit()
        assert isinstance((await core.do(Note(event=replace(DEGRADED, error="x" * 50_000))))[0], StorageFull)
        await core.limit(1_000)
        await core.do(Note(event=DEGRADED))
        assert await core.database.read("SELECT projection, position FROM snapshots ORDER BY projection") == [
            ("statistics", SNAPSHOT_EVERY),
            ("tally", SNAPSHOT_EVERY),
            ("timeline", SNAPSHOT_EVERY),
        ]
        before = core.ledger.statistics, core.ledger.tally, core.ledger.timeline
    async with opened(tmp_path) as core:
        assert (core.ledger.statistics, core.ledger.tally, core.ledger.timeline) == before


async def test_job_that_nothing_happened_to_for_long_is_read_from_the_file(tmp_path):
    async with opened(tmp_path, max_queue=2 * KEPT_JOBS) as core:
        old = await core.submitted()
        await core.ledger.execute(submit(*(new_id() for _ in range(KEPT_JOBS))))
        assert (await core.ledger.job(old)).state is State.QUEUED
        assert (await core.ledger.execute(cancel(old))).jobs[0].version == 2
        assert await core.ledger.job("nobody") is None


async def test_expired_contents_give_their_space_back_to_the_file_system(tmp_path):
    async with opened(tmp_path) as core:
        ids = [
            await core.submitted(body=artifact("request", "application/json", bytes([n]) * 300_000)) for n in range(20)
        ]
        await core.do(*map(cancel, ids))
        pages = (await core.database.read("PRAGMA page_count"))[0][0]
        await core.do(*(ExpireJob(job_id=job_id) for job_id in ids))
        await audit(core)
        core.ledger.close()
        await core.task
        assert (await core.database.read("PRAGMA freelist_count"))[0][0] == 0
        assert (await core.database.read("PRAGMA page_count"))[0][0] < pages / 4
    assert core.database.path.stat().st_size < 1_000_000


async def test_space_that_cannot_be_given_back_is_asked_for_once(tmp_path):
    path = tmp_path / "foreman.db"
    with closing(sqlite3.connect(path)) as before:  # a file that was made without auto_vacuum
        before.execute("CREATE TABLE other (x)")
        before.execute("DROP TABLE other")
    async with opened(tmp_path) as core:
        job_id = await core.submitted(body=LARGE)
        await core.do(cancel(job_id))
        await core.do(ExpireJob(job_id=job_id))
        await core.submitted()
        core.ledger.close()
        await core.task
        assert (await core.database.read("PRAGMA freelist_count"))[0][0] > 0
        assert core.ledger._free_pages == 0
