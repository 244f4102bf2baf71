"""Having deliveries sent once more over HTTP: one of a job's, all of them, or a range."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime

import pytest
from ulid import ULID

from foreman.api import deliveries as api
from foreman.commands.types import ExpireJob, RecordAttempt
from foreman.events.types import Webhook
from foreman.projections import deliveries
from foreman.projections.deliveries import DeliveryFilter
from foreman.projections.outbox import Attempted
from tests.core import HandClock, opened, submit
from tests.fakes.ollama import FakeOllama
from tests.fakes.receiver import Receiver, answer, hold
from tests.integration.test_deliveries import (
    DEAD,
    DELIVERED,
    GONE,
    PENDING,
    SECOND,
    UNKNOWN,
    get,
    redelivered,
    refused,
    told,
    until,
)
from tests.kit import running


def at(micros: int) -> str:
    return datetime.fromtimestamp(micros / SECOND, UTC).isoformat()


# One job's


async def test_job_that_tells_nobody_has_no_deliveries_and_nothing_to_send_again(tmp_path):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url) as foreman:
        job_id = await foreman.submit("a")
        assert await get(foreman, f"/jobs/{job_id}/deliveries") == []
        assert await redelivered(foreman, f"/jobs/{job_id}/deliveries") == 0


@pytest.mark.parametrize(
    ("wanted", "again"),
    [({}, [1, 2]), ({"state": "dead"}, [1]), ({"state": "delivered"}, [2]), ({"state": "gone"}, []),
     ({"id": "{job}-2"}, [2]), ({"id": "{job}-2", "state": "dead"}, []), ({"id": None, "state": None}, [1, 2])],
    ids=str,
)  # fmt: skip
async def test_job_has_what_was_asked_for_sent_once_more(tmp_path, wanted, again):
    async with FakeOllama(["a"]) as fake, Receiver() as receiver:
        async with opened(tmp_path) as core:
            job_id = await told(core, receiver.url, DEAD, DELIVERED)
        async with running(tmp_path, fake.url, clock=HandClock()) as foreman:
            body = {name: value and value.format(job=job_id) for name, value in wanted.items()}
            assert await redelivered(foreman, f"/jobs/{job_id}/deliveries", **body) == len(again)
            await until(foreman, lambda outbox: not outbox.pending)
            assert [arrival.id for arrival in receiver.arrivals] == [f"{job_id}-{version}" for version in again]
            shown = await get(foreman, f"/jobs/{job_id}/deliveries")
        made = [[attempt["status"] for attempt in item["attempts"]] for item in shown]
        assert made == [[500, 200] if version in again else [500] for version in (1, 2)]


@pytest.mark.parametrize(
    ("wanted", "count"),
    [({}, 2), ({"id": "{job}-1"}, 1), ({"state": "pending"}, 2), ({"state": "dead"}, 0), ({"id": "{job}-2"}, 1)],
    ids=str,
)
async def test_delivery_that_waits_is_sent_at_once_if_it_is_asked_for(tmp_path, wanted, count):
    """The second one's turn comes after the first one's, whoever asked for it."""
    async with FakeOllama(["a"]) as fake, Receiver() as receiver:
        async with opened(tmp_path) as core:
            job_id = await told(core, receiver.url, PENDING)
        async with running(tmp_path, fake.url, clock=HandClock()) as foreman:
            before = await get(foreman, f"/jobs/{job_id}/deliveries")
            assert [(item["state"], item["waits_for"]) for item in before] == [
                ("pending", None), ("pending", f"{job_id}-1")]  # fmt: skip
            body = {name: value.format(job=job_id) for name, value in wanted.items()}
            assert await redelivered(foreman, f"/jobs/{job_id}/deliveries", **body) == count
            first_is_sent = count == 2 or wanted == {"id": "{job}-1"}
            if first_is_sent:
                await until(foreman, lambda outbox: not outbox.pending)
                assert [arrival.id for arrival in receiver.arrivals] == [f"{job_id}-1", f"{job_id}-2"]
            else:
                assert await get(foreman, f"/jobs/{job_id}/deliveries") == before
                assert receiver.arrivals == []


async def test_range_takes_what_waits_if_it_says_so(tmp_path):
    async with FakeOllama(["a"]) as fake, Receiver() as receiver:
        async with opened(tmp_path) as core:
            jobs = [await told(core, receiver.url, PENDING) for _ in range(2)]
        async with running(tmp_path, fake.url, clock=HandClock()) as foreman:
            assert await redelivered(foreman, "/deliveries", state="pending") == 4
            await until(foreman, lambda outbox: not outbox.pending)
            assert {arrival.id for arrival in receiver.arrivals} == {f"{job}-{n}" for job in jobs for n in (1, 2)}


async def test_all_of_a_job_that_is_gone_again_are_one_request(tmp_path):
    async with FakeOllama(["a"]) as fake, Receiver() as receiver:
        receiver.default = answer(410)
        async with opened(tmp_path) as core:
            job_id = await told(core, receiver.url, GONE)
        async with running(tmp_path, fake.url, clock=HandClock()) as foreman:
            shown = await get(foreman, f"/jobs/{job_id}/deliveries")
            assert [(item["state"], item["attempt_count"]) for item in shown] == [("gone", 1), ("gone", 0)]
            assert await redelivered(foreman, f"/jobs/{job_id}/deliveries") == 2
            await until(foreman, lambda outbox: not outbox.pending)
            shown = await get(foreman, f"/jobs/{job_id}/deliveries")
            assert [(item["state"], item["attempt_count"]) for item in shown] == [("gone", 2), ("gone", 0)]
        assert [arrival.id for arrival in receiver.arrivals] == [f"{job_id}-1"]


async def test_empty_body_asks_for_all_of_a_job(tmp_path):
    async with FakeOllama(["a"]) as fake, Receiver() as receiver:
        async with opened(tmp_path) as core:
            job_id = await told(core, receiver.url, DEAD, GONE)
        async with running(tmp_path, fake.url, clock=HandClock()) as foreman:
            response = await foreman.client.post(f"/jobs/{job_id}/deliveries/redeliver")
            assert (response.status_code, response.json()) == (202, {"redelivered": 2})


@pytest.mark.parametrize("id_", [f"{UNKNOWN}-1", "{job}-3", "{job}-01", "{job}", "", "1"])
async def test_delivery_that_the_job_has_not_is_404(tmp_path, id_):
    async with FakeOllama(["a"]) as fake, Receiver() as receiver:
        async with opened(tmp_path) as core:
            job_id = await told(core, receiver.url, DEAD, DEAD)
        async with running(tmp_path, fake.url, clock=HandClock()) as foreman:
            body = {"id": id_.format(job=job_id)}
            response = await foreman.client.post(f"/jobs/{job_id}/deliveries/redeliver", json=body)
            refused(response, 404, "delivery_not_found")


BODIES = {
    "no JSON": (b"dead", "'the body': Invalid JSON"),
    "no object": (b"[]", "'the body': Input should be an object"),
    "no UTF-8": (b'{"state":"\xff"}', "'the body': Invalid JSON"),
    "unknown member": (b'{"status":"dead"}', "'status': Extra inputs"),
    "no state": (b'{"state":"done"}', "'state': Input should be 'pending', 'delivered', 'dead' or 'gone'"),
    "two faults": (b'{"state":"done","x":1}', "'x': Extra inputs"),
    "thousand faults": (json.dumps(dict.fromkeys(map(str, range(1_000)))).encode(), "; and 990 more"),
}


@pytest.mark.parametrize(("body", "named"), BODIES.values(), ids=BODIES)
async def test_body_that_asks_for_something_else_is_refused(tmp_path, body, named):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url) as foreman:
        job_id = await foreman.submit("a")
        for path in (f"/jobs/{job_id}/deliveries/redeliver", "/deliveries/redeliver"):
            response = await foreman.client.post(path, content=body)
            refused(response, 400, "invalid_request", named)
            assert len(response.content) < 1_000


# A range


@pytest.mark.parametrize(
    ("wanted", "again"),
    [
        (b"", [1, 2]), (b"{}", [1, 2]), (b'{"state":"gone"}', [6]), (b'{"state":"delivered"}', [3, 7]),
        (b'{"first_position":2}', [2]), (b'{"last_position":1}', [1]), (b'{"first_position":3}', []),
        (b'{"first_position":2,"last_position":1}', []), (b'{"last_position":0}', []),
        (b'{"receiver":"other.example"}', []), (b'{"receiver":"http://other.example/x","state":"gone"}', [6]),
        (b'{"receiver":"OTHER.example:80","state":"gone"}', [6]),
        (b'{"first_position":1,"last_position":9223372036854775807,"receiver":null}', [1, 2]),
    ],
)  # fmt: skip
async def test_range_is_sent_once_more_those_given_up_by_default(tmp_path, wanted, again):
    async with FakeOllama(["a"]) as fake, Receiver() as receiver:
        async with opened(tmp_path) as core:
            await told(core, receiver.url, DEAD, DEAD)  # at 1 and 2
            await told(core, receiver.url, DELIVERED, PENDING)  # at 3 and 4
            await told(core, "http://other.example/", PENDING, GONE)  # at 5 and 6
            await told(core, receiver.url, DELIVERED)  # at 7 and 8
        before = {1: "dead", 2: "dead", 3: "delivered", 4: "pending", 5: "pending", 6: "gone", 7: "delivered"}
        before[8] = "pending"
        gate = asyncio.Event()
        receiver.default = hold(gate)
        async with running(tmp_path, fake.url, clock=HandClock()) as foreman:
            response = await foreman.client.post("/deliveries/redeliver", content=wanted)
            assert (response.status_code, response.json()) == (202, {"redelivered": len(again)})
            after = {item["log_position"]: item["state"] for item in await get(foreman, "/deliveries")}
            assert after == before | dict.fromkeys(again, "pending")
            gate.set()


async def test_range_of_times_is_in_any_zone_and_holds_both_ends(tmp_path):
    clock = HandClock(at=1_700_000_000 * SECOND)
    async with FakeOllama(["a"]) as fake:
        async with opened(tmp_path, clock=clock) as core:
            for _ in range(4):
                await told(core, "http://127.0.0.1:9/", DEAD, DEAD)
                clock.at += 10 * SECOND
        start = clock.at - 40 * SECOND
        async with running(tmp_path, fake.url, clock=clock) as foreman:
            for body, count in (
                ({"since": at(start + 10 * SECOND), "until": at(start + 20 * SECOND)}, 4),
                ({"since": at(start + 30 * SECOND + 1)}, 0),
                ({"until": at(start - 1)}, 0),
                ({"since": at(start), "last_position": 1}, 1),
                ({"until": at(start), "first_position": 2}, 1),
                ({"since": "2023-11-15T00:13:50+02:00"}, 2),
                ({"since": "0001-01-01T00:00:00Z", "until": "9999-12-31T23:59:59-12:00"}, 0),
            ):
                assert await redelivered(foreman, "/deliveries", **body) == count, body


@pytest.mark.parametrize(
    ("body", "named"),
    [({"since": "2023-11-14T22:13:20"}, "'since': Input should have timezone info"),
     ({"since": 1_700_000_000}, "since"), ({"until": "yesterday"}, "until"),
     ({"first_position": -1}, "first_position"), ({"last_position": "1"}, "last_p"),
     ({"first_position": 2**63}, "first_position"), ({"last_position": 1.5}, "last_position"),
     ({"receiver": ""}, "receiver"), ({"receiver": "x" * 301}, "receiver"), ({"receiver": 7}, "receiver"),
     ({"receiver": "a b"}, "'receiver' must be host:port or a URL"),
     ({"id": "x"}, "'id': Extra inputs")],
)  # fmt: skip
async def test_range_that_is_none_names_its_fault(tmp_path, body, named):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url) as foreman:
        response = await foreman.client.post("/deliveries/redeliver", json=body)
        refused(response, 400, "invalid_request", named)


async def test_range_of_more_than_one_step_is_sent_whole(tmp_path):
    async with FakeOllama(["a"]) as fake, Receiver() as receiver:
        async with opened(tmp_path, max_queue=2_000) as core:
            jobs = [submit(str(ULID()), webhook=Webhook(url=receiver.url)) for _ in range(3 * api.STEP)]
            await core.do(*jobs)
            lost = [
                Attempted(job_id=job_id, position=lane.head.position, attempt=None, status=DEAD)
                for job_id, lane in core.ledger.outbox.lanes.items()
            ]
            await core.do(*(RecordAttempt(job_id=outcome.job_id, attempted=outcome) for outcome in lost))
            assert core.ledger.outbox.pending == 0
        gate = asyncio.Event()
        receiver.default = hold(gate)
        await fake.go_away()  # so that no job begins, and there is nothing else to tell
        async with running(tmp_path, fake.url, clock=HandClock()) as foreman:
            assert await redelivered(foreman, "/deliveries", state="dead") == 3 * api.STEP
            assert foreman.foreman.ledger.outbox.pending == 3 * api.STEP
            assert await redelivered(foreman, "/deliveries", state="dead") == 0
            gate.set()


async def test_job_that_expires_meanwhile_does_not_stop_the_others(tmp_path):
    async with FakeOllama(["a"]) as fake:
        async with opened(tmp_path) as core:
            first, second = [await told(core, "http://127.0.0.1:9/", DEAD, DEAD) for _ in range(2)]
        async with running(tmp_path, fake.url, clock=HandClock()) as foreman:
            desk = foreman.foreman.desk
            found = await deliveries.page(desk.read, DeliveryFilter(status=DEAD))
            await foreman.foreman.ledger.execute(ExpireJob(job_id=first))
            assert await api._revive(desk, found) == 2
            assert {item["job_id"] for item in await get(foreman, "/deliveries")} == {second}
