"""The deliveries table: what is told of whom, what is kept of each attempt, pages by any filter, and older files."""

from __future__ import annotations

import dataclasses
import sqlite3
from contextlib import closing

import orjson
import pytest
from msgspec.structs import replace

from foreman.clock import Micros
from foreman.commands.schema import MIGRATIONS
from foreman.commands.types import CancelJob, ExpireJob, RecordAttempt, Redeliver
from foreman.events import log
from foreman.events.codec import CODEC, GENESIS, chain_hash
from foreman.events.types import CancelledBy, Position, Webhook
from foreman.fsm.job import FINISHED, State
from foreman.projections import contents, deliveries, jobs
from foreman.projections.deliveries import DeliveryFilter
from foreman.projections.outbox import Attempt, Attempted, Status
from tests.core import BODY, HISTORIES, QUEUED, SELECTIVE, WEBHOOK, audit, job_after, lanes_of, opened, submit

FAILED_ATTEMPT = Attempt(
    at=Micros(5), duration=1_500, address="192.0.2.7:80", status=500, reply="no", error="it said 500"
)


def cancel(job_id: str) -> CancelJob:
    return CancelJob(job_id=job_id, by=CancelledBy.API)


def ended(job_id: str, position: int, status: Status = Status.DELIVERED, **members) -> RecordAttempt:
    members = {"attempt": FAILED_ATTEMPT, **members}
    attempted = Attempted(job_id=job_id, position=Position(position), status=status, **members)
    return RecordAttempt(job_id=job_id, attempted=attempted)


async def rows(core, **wanted) -> dict[int, deliveries.Delivery]:
    return {item.position: item for item in await deliveries.page(core.database.read, DeliveryFilter(**wanted))}


async def positions(core, **wanted) -> list[int]:
    return list(await rows(core, **wanted))


@pytest.mark.parametrize("state", [state for state in State if state is not State.NEW])
@pytest.mark.parametrize(
    ("events", "also"),
    [(None, set(State)), ((), set()), (("working",), {State.WORKING})],
    ids=["all", "none", "working"],
)
def test_state_is_told_if_it_was_asked_for_or_is_final_but_removal_never(state, events, also):
    first, *later = HISTORIES[state]
    job = job_after(replace(first, webhook=Webhook(url="http://hooks.example/", events=events)), *later)
    assert deliveries.is_told(job) is (state is not State.EXPIRED and (state in FINISHED or state in also))
    assert not deliveries.is_told(job_after(*HISTORIES[state]))


@pytest.mark.parametrize(
    ("url", "receiver"),
    [("http://Hooks.Example/x", "hooks.example:80"), ("https://hooks.example./", "hooks.example:443"),
     ("http://[0:0::1]:8080/", "[::1]:8080")],
)  # fmt: skip
def test_receiver_is_one_however_its_url_is_written(url, receiver):
    assert deliveries.receiver_of(url) == receiver


def test_url_that_would_not_be_accepted_today_does_not_stop_the_log():
    job = job_after(replace(QUEUED, webhook=Webhook(url="gopher://hooks.example/")))
    assert deliveries.told(job).receiver == "unknown"


def test_delivery_is_named_by_its_job_and_version():
    assert deliveries.message_id("J", 3) == "J-3"


async def test_attempts_are_kept_in_their_order_with_all_that_is_known(tmp_path):
    async with opened(tmp_path) as core:
        await core.do(submit("A", webhook=WEBHOOK))
        bare = Attempt(at=Micros(6), duration=0)
        await core.do(ended("A", 1, Status.PENDING, due=Micros(9)))
        await core.do(ended("A", 1, attempt=bare))
        assert await deliveries.attempts(core.database.read, [1, 99]) == {1: [FAILED_ATTEMPT, bare]}
        await audit(core)


async def test_failed_attempt_leaves_the_delivery_pending_and_says_when_it_is_due(tmp_path):
    async with opened(tmp_path) as core:
        await core.do(submit("A", webhook=WEBHOOK))
        await core.do(ended("A", 1, Status.PENDING, due=Micros(9)))
        (row,) = (await rows(core)).values()
        assert (row.status, row.due, row.ended, row.attempts) == (Status.PENDING, 9, None, 1)
        assert (row.job_id, row.version, row.state, row.receiver) == ("A", 1, "queued", "hooks.example:80")
        assert lanes_of(core.ledger.outbox)["A"] == ("hooks.example:80", [(1, 9, 1)])


@pytest.mark.parametrize("status", [Status.DELIVERED, Status.DEAD, Status.GONE])
async def test_ended_delivery_says_when_and_is_pending_no_more(tmp_path, status):
    async with opened(tmp_path) as core:
        await core.do(submit("A", webhook=WEBHOOK))
        core.clock.at += 7
        await core.do(ended("A", 1, status))
        (row,) = (await rows(core)).values()
        assert (row.status, row.ended, row.attempts) == (status, core.clock.at, 1)
        assert core.ledger.outbox.pending == 0
        await audit(core)


async def test_delivery_that_was_not_tried_has_no_attempt(tmp_path):
    async with opened(tmp_path) as core:
        await core.do(submit("A", webhook=WEBHOOK))
        await core.do(ended("A", 1, Status.GONE, attempt=None))
        assert (await rows(core))[1].attempts == 0
        assert await deliveries.attempts(core.database.read, [1]) == {}


@pytest.mark.parametrize("apart", [True, False], ids=["apart", "in one transaction"])
async def test_second_outcome_of_an_ended_delivery_counts_for_nothing(tmp_path, apart):
    async with opened(tmp_path) as core:
        await core.do(submit("A", webhook=WEBHOOK))
        first, second = ended("A", 1, Status.DEAD), ended("A", 1, Status.PENDING, due=Micros(9))
        for commands in [(first,), (second,)] if apart else [(first, second)]:
            await core.do(*commands)
        row = (await rows(core))[1]
        assert (row.status, row.attempts) == (Status.DEAD, 1)
        await audit(core)


async def test_two_failures_in_one_transaction_are_two_attempts(tmp_path):
    async with opened(tmp_path) as core:
        await core.do(submit("A", webhook=WEBHOOK))
        await core.do(*(ended("A", 1, Status.PENDING, due=Micros(due)) for due in (8, 9)))
        assert lanes_of(core.ledger.outbox)["A"] == ("hooks.example:80", [(1, 9, 2)])
        await audit(core)


async def test_revived_delivery_keeps_its_attempts_but_not_its_failures(tmp_path):
    async with opened(tmp_path) as core:
        await core.do(submit("A", webhook=WEBHOOK))
        await core.do(ended("A", 1, Status.PENDING, due=Micros(9)))
        await core.do(ended("A", 1, Status.DEAD))
        await core.do(Redeliver(job_id="A", positions=(Position(1),)))
        assert lanes_of(core.ledger.outbox)["A"] == ("hooks.example:80", [(1, core.clock.at, 0)])
        await audit(core)
        await core.do(ended("A", 1))
        assert len((await deliveries.attempts(core.database.read, [1]))[1]) == 3
        await audit(core)


async def test_delivery_that_waits_is_begun_anew(tmp_path):
    async with opened(tmp_path) as core:
        await core.do(submit("A", webhook=WEBHOOK))
        await core.do(ended("A", 1, Status.PENDING, due=Micros(core.clock.at + 9_000)))
        core.clock.at += 7
        await core.do(Redeliver(job_id="A", positions=(Position(1),)))
        assert lanes_of(core.ledger.outbox)["A"] == ("hooks.example:80", [(1, core.clock.at, 0)])
        assert (await rows(core))[1].attempts == 1
        await audit(core)


async def test_expired_job_leaves_no_delivery_no_attempt_and_no_secret(tmp_path):
    async with opened(tmp_path) as core:
        await core.do(submit("A", webhook=WEBHOOK, secret="s3cret"), submit("B", webhook=SELECTIVE, secret="other"))
        await core.do(cancel("A"), ended("A", 1, Status.PENDING, due=Micros(9)))
        assert await deliveries.secret_of(core.database.read, "A") == "s3cret"
        taken = core.ledger.outbox.take(Micros(core.clock.at), "hooks.example:80".__eq__)
        await core.do(ExpireJob(job_id="A"))
        assert await deliveries.secret_of(core.database.read, "A") is None
        assert await deliveries.secret_of(core.database.read, "B") == "other"
        assert set(core.ledger.outbox.lanes) == {"B"}
        # What was under way when the job expired changes nothing any more.
        await core.do(ended("A", taken.head.position), ended("A", 1, Status.PENDING, due=Micros(9)))
        assert await positions(core) == [2]
        await audit(core)


async def test_life_of_a_delivery_fits_into_one_transaction(tmp_path):
    async with opened(tmp_path) as core:
        again, now = Redeliver(job_id="A", positions=(Position(1),)), core.clock.at
        await core.do(submit("A", webhook=WEBHOOK, secret="x"), ended("A", 1, Status.DEAD), again, cancel("A"))
        assert (core.database.transactions, lanes_of(core.ledger.outbox)["A"][1]) == (1, [(1, now, 0), (2, now, 0)])
        await audit(core)
        await core.do(ended("A", 1), again, ExpireJob(job_id="A"), again)
        assert (core.database.transactions, core.ledger.outbox.lanes) == (2, {})
        await audit(core)


@pytest.mark.parametrize("apart", [True, False], ids=["apart", "in one transaction"])
async def test_gone_ends_all_that_the_job_has_to_tell_later(tmp_path, apart):
    async with opened(tmp_path) as core:
        first = (submit("A", webhook=WEBHOOK), submit("B", webhook=WEBHOOK), cancel("A"))
        for commands in [first, (ended("A", 1, Status.GONE),)] if apart else [(*first, ended("A", 1, Status.GONE))]:
            core.clock.at += 1
            await core.do(*commands)
        found = await rows(core)
        assert [(found[at].status, found[at].attempts, found[at].ended) for at in (1, 2, 3)] == [
            (Status.GONE, 1, core.clock.at),
            (Status.PENDING, 0, None),
            (Status.GONE, 0, core.clock.at),
        ]
        assert set(core.ledger.outbox.lanes) == {"B"}
        await audit(core)


async def test_what_is_told_later_of_a_job_is_gone_too_unless_somebody_asks_for_it(tmp_path):
    async with opened(tmp_path) as core:
        await core.do(submit("A", webhook=WEBHOOK), submit("B", webhook=WEBHOOK))
        await core.do(ended("A", 1, Status.GONE), cancel("A"), cancel("B"))
        assert [await deliveries.is_gone(core.database.read, Position(at)) for at in (1, 2, 3, 4)] == [
            False, False, True, False]  # fmt: skip
        await core.do(ended("A", 3, Status.GONE, attempt=None), Redeliver(job_id="A", positions=(Position(3),)))
        assert not await deliveries.is_gone(core.database.read, Position(3)), "somebody asked for this one"


async def test_all_begun_anew_are_gone_at_once_with_the_second_410(tmp_path):
    async with opened(tmp_path) as core:
        await core.do(submit("A", webhook=WEBHOOK), cancel("A"), ended("A", 1, Status.GONE))
        await core.do(Redeliver(job_id="A", positions=(Position(1), Position(2))))
        assert core.ledger.outbox.pending == 2
        await core.do(ended("A", 1, Status.GONE))
        assert [(row.status, row.attempts) for row in (await rows(core)).values()] == [
            (Status.GONE, 2), (Status.GONE, 0)]  # fmt: skip
        assert core.ledger.outbox.pending == 0
        await audit(core)


async def test_last_attempts_are_the_last_of_each(tmp_path):
    async with opened(tmp_path) as core:
        await core.do(submit("A", webhook=WEBHOOK), submit("B", webhook=WEBHOOK), submit("C", webhook=WEBHOOK))
        bare = Attempt(at=Micros(6), duration=0)
        await core.do(ended("A", 1, Status.PENDING, due=Micros(9)), ended("B", 2, attempt=bare))
        await core.do(ended("A", 1, attempt=dataclasses.replace(bare, status=200)))
        found = await deliveries.last_attempts(core.database.read, [1, 2, 3, 99])
        assert found == {1: [dataclasses.replace(bare, status=200)], 2: [bare]}


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({}, [1, 2, 3, 4, 5]),
        ({"newest_first": True, "limit": 2}, [5, 4]),
        ({"limit": 2}, [1, 2]),
        ({"status": Status.DEAD}, [1, 4]),
        ({"status": Status.PENDING, "newest_first": True}, [5, 3]),
        ({"job_id": "A"}, [1, 4]),
        ({"receiver": "other.example:443"}, [2, 5]),
        ({"receiver": "other.example:443", "status": Status.DELIVERED}, [2]),
        ({"first": 2, "last": 4}, [2, 3, 4]),
        ({"first": 5, "last": 4}, []),
        ({"last": 0}, []),
        ({"receiver": "x' OR '1'='1"}, []),
    ],
    ids=str,
)
async def test_page_holds_what_the_filter_asks_for_in_order(tmp_path, wanted, found):
    async with opened(tmp_path) as core:
        for command in (
            submit("A", webhook=WEBHOOK), submit("B", webhook=SELECTIVE), submit("C", webhook=WEBHOOK), cancel("A"),
            cancel("B"), ended("A", 1, Status.DEAD), ended("B", 2), ended("A", 4, Status.DEAD),
        ):  # fmt: skip
            await core.ledger.execute(command)
        assert await positions(core, **wanted) == found


async def test_restart_takes_up_the_outbox_where_it_stood(tmp_path):
    async with opened(tmp_path) as core:
        await core.do(submit("A", webhook=WEBHOOK), submit("B", webhook=SELECTIVE), cancel("A"))
        await core.do(ended("A", 1, Status.PENDING, due=Micros(9)))
        before = lanes_of(core.ledger.outbox)
        assert core.ledger.outbox.take(Micros(core.clock.at), lambda _receiver: True).job_id == "A"
    async with opened(tmp_path) as core:
        assert lanes_of(core.ledger.outbox) == before
        assert not any(lane.taken for lane in core.ledger.outbox.lanes.values())
        await audit(core)


async def test_file_of_the_first_schema_opens_and_its_jobs_go_on(tmp_path):
    event = CODEC.encode(QUEUED).replace(',"webhook":null', "")
    hash_ = chain_hash(GENESIS, 1, "A", 1, "job.queued", 1_000_000, event)
    *columns, view = jobs.row(replace(job_after(QUEUED, stream="A"), log_hash=hash_.hex()))
    members = {name: value for name, value in orjson.loads(view).items() if name != "webhook"}
    with closing(sqlite3.connect(tmp_path / "foreman.db")) as before:
        before.executescript(f"PRAGMA auto_vacuum = INCREMENTAL; {MIGRATIONS[0]} PRAGMA user_version = 1;")
        before.execute(log.INSERT, (1, "A", 1, "job.queued", 1_000_000, event, hash_))
        before.execute(jobs.UPSERT, (*columns, orjson.dumps(members).decode()))
        before.execute(contents.INSERT, contents.row("A", BODY))
        before.commit()
    async with opened(tmp_path) as core:
        assert await core.database.read("PRAGMA user_version") == [(len(MIGRATIONS),)]
        assert [job.webhook for job in core.unfinished] == [None]
        await core.do(submit("B", webhook=WEBHOOK), cancel("A"), cancel("B"))
        assert await positions(core) == [2, 4]
        await audit(core)
