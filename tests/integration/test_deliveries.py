"""Deliveries over HTTP: what became of each webhook, and having some of them sent once more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

import httpx
import pytest
from ulid import ULID

from foreman.api import deliveries as api
from foreman.clock import Micros
from foreman.commands.types import CancelJob, ExpireJob, RecordAttempt
from foreman.events.feed import OUTBOX
from foreman.events.types import CancelledBy, Webhook
from foreman.projections import deliveries
from foreman.projections.deliveries import DeliveryFilter
from foreman.projections.outbox import Attempt, Attempted, Outbox, Status
from tests.core import Core, HandClock, opened, submit
from tests.fakes.ollama import FakeOllama
from tests.fakes.receiver import Receiver, answer, hold
from tests.kit import PATIENCE_S, Running, running

DEAD, GONE, DELIVERED, PENDING = Status.DEAD, Status.GONE, Status.DELIVERED, Status.PENDING
SECOND = 1_000_000
UNKNOWN = "01ARZ3NDEKTSV4RRFFQ69G5FAV"


async def told(core: Core, url: str | None, *statuses: Status) -> str:
    """A job that was queued and cancelled at once, and what became of the two deliveries; its id."""
    job_id = str(ULID())
    await core.do(submit(job_id, webhook=None if url is None else Webhook(url=url)))
    await core.do(CancelJob(job_id=job_id, by=CancelledBy.API))
    rows = await deliveries.page(core.database.read, DeliveryFilter(job_id=job_id))
    for row, status in zip(rows, statuses, strict=False):
        attempt = Attempt(at=core.clock.now(), duration=1_500, status=500, reply="no", error="it answered 500")
        due = Micros(core.clock.at + 3_600 * SECOND if status is PENDING else 0)
        outcome = Attempted(job_id=job_id, position=row.position, attempt=attempt, status=status, due=due)
        await core.do(RecordAttempt(job_id=job_id, attempted=outcome))
    return job_id


async def until(foreman: Running, true: Callable[[Outbox], bool]) -> None:
    """Wait until something holds of the outbox."""
    with foreman.foreman.ledger.feed.watch(OUTBOX) as changed:
        async with asyncio.timeout(PATIENCE_S):
            while not true(foreman.foreman.ledger.outbox):
                changed.clear()
                await changed.wait()


async def get(foreman: Running, path: str, **params) -> list[dict]:
    response = await foreman.client.get(path, params=params)
    assert response.status_code == 200, response.text
    return response.json()["deliveries"]


async def redelivered(foreman: Running, path: str, **body) -> int:
    response = await foreman.client.post(f"{path}/redeliver", json=body)
    assert response.status_code == 202, response.text
    return response.json()["redelivered"]


def refused(response: httpx.Response, status: int, code: str, named: str = "") -> None:
    assert (response.status_code, response.json()["code"]) == (status, code), response.text
    assert named in response.json()["error"]


def at(micros: int) -> str:
    return datetime.fromtimestamp(micros / SECOND, UTC).isoformat()


# One job's


async def test_deliveries_of_a_job_are_shown_in_order_with_every_attempt(tmp_path):
    clock = HandClock()
    async with FakeOllama(["a"]) as fake, Receiver() as receiver, running(tmp_path, fake.url, clock=clock) as foreman:
        receiver.behave(answer(503, b"busy"))
        job_id = await foreman.submit("a", state_webhook_url=receiver.url, webhook_events=["queued"])
        await foreman.until_finished(job_id)
        await until(foreman, lambda outbox: outbox.lanes[job_id].head.failures == 1)
        first, last = await get(foreman, f"/jobs/{job_id}/deliveries")
        (attempt,) = first["attempts"]
        assert (first["id"], first["state"], first["attempt_count"]) == (f"{job_id}-1", "pending", 1)
        assert (attempt["status"], attempt["reply"], attempt["address"]) == (503, "busy", f"127.0.0.1:{receiver.port}")
        assert "503" in attempt["error"]
        assert first["receiver"] == f"127.0.0.1:{receiver.port}"
        assert first["next_attempt_at"] > attempt["at"]
        assert (last["state"], last["attempts"], last["next_attempt_at"]) == ("pending", [], None)
        clock.at += 2 * SECOND
        foreman.foreman.ledger.feed.wake(OUTBOX)
        await until(foreman, lambda outbox: not outbox.pending)
        first, last = await get(foreman, f"/jobs/{job_id}/deliveries")
        assert ([item["status"] for item in first["attempts"]], first["state"]) == ([503, 200], "delivered")
        assert first["attempts"][1]["error"] is None
        assert (last["id"], last["attempt_count"]) == (f"{job_id}-{len(await foreman.events(job_id))}", 1)
        assert first["ended_at"] == last["ended_at"] == last["attempts"][0]["at"]


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


async def test_delivery_that_is_pending_is_left_as_it_is(tmp_path):
    async with FakeOllama(["a"]) as fake, Receiver() as receiver:
        async with opened(tmp_path) as core:
            job_id = await told(core, receiver.url, PENDING)
        async with running(tmp_path, fake.url, clock=HandClock()) as foreman:
            before = await get(foreman, f"/jobs/{job_id}/deliveries")
            for body in ({}, {"id": f"{job_id}-1"}, {"state": "dead"}):
                assert await redelivered(foreman, f"/jobs/{job_id}/deliveries", **body) == 0
            assert await get(foreman, f"/jobs/{job_id}/deliveries") == before
            assert [item["state"] for item in before] == ["pending", "pending"]
        assert receiver.arrivals == []


async def test_empty_body_asks_for_all_of_a_job(tmp_path):
    async with FakeOllama(["a"]) as fake, Receiver() as receiver:
        async with opened(tmp_path) as core:
            job_id = await told(core, receiver.url, DEAD, GONE)
        async with running(tmp_path, fake.url, clock=HandClock()) as foreman:
            response = await foreman.client.post(f"/jobs/{job_id}/deliveries/redeliver")
            assert (response.status_code, response.json()) == (202, {"redelivered": 2})


async def test_expired_job_has_no_deliveries_left(tmp_path):
    async with FakeOllama(["a"]) as fake, Receiver() as receiver:
        async with opened(tmp_path) as core:
            job_id = await told(core, receiver.url, DEAD, DEAD)
            await core.do(ExpireJob(job_id=job_id))
        async with running(tmp_path, fake.url, clock=HandClock()) as foreman:
            assert await get(foreman, f"/jobs/{job_id}/deliveries") == []
            refused(await foreman.client.post(f"/jobs/{job_id}/deliveries/redeliver"), 410, "job_expired")


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
    "no JSON": (b"dead", "the body: Invalid JSON"),
    "no object": (b"[]", "the body: Input should be an object"),
    "no UTF-8": (b'{"state":"\xff"}', "the body: Invalid JSON"),
    "unknown member": (b'{"status":"dead"}', "status: Extra inputs"),
    "pending": (b'{"state":"pending"}', "state: Input should be 'delivered', 'dead' or 'gone'"),
    "two faults": (b'{"state":"done","x":1}', "x: Extra inputs"),
}


@pytest.mark.parametrize(("body", "named"), BODIES.values(), ids=BODIES)
async def test_body_that_asks_for_something_else_is_refused(tmp_path, body, named):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url) as foreman:
        job_id = await foreman.submit("a")
        for path in (f"/jobs/{job_id}/deliveries/redeliver", "/deliveries/redeliver"):
            refused(await foreman.client.post(path, content=body), 400, "invalid_request", named)


@pytest.mark.parametrize("method", ["get", "post"])
async def test_deliveries_of_a_job_that_is_not_there_are_refused(tmp_path, method):
    path = "/jobs/{}/deliveries" if method == "get" else "/jobs/{}/deliveries/redeliver"
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url) as foreman:
        ask = getattr(foreman.client, method)
        refused(await ask(path.format(UNKNOWN)), 404, "job_not_found", UNKNOWN)
        refused(await ask(path.format("7")), 400, "invalid_request", "no job id")


# All


async def shelf(folder, url: str, other: str) -> list[str]:
    """A file with three jobs: two deliveries that are dead, one gone, two delivered, one pending for an hour."""
    async with opened(folder) as core:
        return [
            await told(core, url, DEAD, DEAD),
            await told(core, other, DELIVERED, GONE),
            await told(core, url, DELIVERED, PENDING),
        ]


async def test_list_is_newest_first_and_takes_state_and_receiver(tmp_path):
    async with FakeOllama(["a"]) as fake, Receiver() as receiver:
        a, b, c = await shelf(tmp_path, receiver.url, "http://Other.Example/")
        async with running(tmp_path, fake.url, clock=HandClock()) as foreman:

            async def ids(**params) -> list[str]:
                return [item["id"] for item in await get(foreman, "/deliveries", **params)]

            assert await ids() == [f"{job}-{version}" for job in (c, b, a) for version in (2, 1)]
            assert await ids(state="dead") == [f"{a}-2", f"{a}-1"]
            assert await ids(state="pending") == [f"{c}-2"]
            assert await ids(receiver="other.EXAMPLE:80") == [f"{b}-2", f"{b}-1"]
            assert await ids(receiver="other.example:80", state="gone") == [f"{b}-2"]
            assert await ids(receiver="other.example") == []
            assert await ids(limit=1) == [f"{c}-2"]
            assert [len(item["attempts"]) for item in await get(foreman, "/deliveries")] == [1] * 6


@pytest.mark.parametrize("limit", [1, 2, 4, 6, 7])
async def test_pages_show_every_delivery_once_while_new_ones_come(tmp_path, limit):
    async with FakeOllama(["a"]) as fake, Receiver() as receiver:
        jobs = await shelf(tmp_path, receiver.url, receiver.url)
        async with running(tmp_path, fake.url, clock=HandClock()) as foreman:
            found, cursor = [], {}
            while cursor is not None:
                page = (await foreman.client.get("/deliveries", params={"limit": limit, **cursor})).json()
                assert len(page["deliveries"]) == limit or page["next"] is None
                found += [item["id"] for item in page["deliveries"]]
                cursor = {"cursor": page["next"]} if page["next"] else None
                await foreman.submit("a", state_webhook_url=receiver.url)
        assert found == [f"{job}-{version}" for job in reversed(jobs) for version in (2, 1)]


@pytest.mark.parametrize(
    ("query", "named"),
    [("state=done", "'state'"), ("state=dead,gone", "'state'"), ("limit=0", "'limit'"), ("limit=1001", "'limit'"),
     ("cursor=x", "'cursor'"), ("cursor=", "'cursor'"), ("receiver=", "'receiver'"), ("job=1", "'job' is not"),
     ("state=dead&state=gone", "twice")],
)  # fmt: skip
async def test_question_that_cannot_be_answered_names_its_fault(tmp_path, query, named):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url) as foreman:
        refused(await foreman.client.get(f"/deliveries?{query}"), 400, "invalid_request", named)


@pytest.mark.parametrize(
    ("wanted", "again"),
    [
        (b"", [1, 2]), (b"{}", [1, 2]), (b'{"state":"gone"}', [6]), (b'{"state":"delivered"}', [3, 7]),
        (b'{"first_position":2}', [2]), (b'{"last_position":1}', [1]), (b'{"first_position":3}', []),
        (b'{"first_position":2,"last_position":1}', []), (b'{"last_position":0}', []),
        (b'{"receiver":"other.example:80"}', []), (b'{"receiver":"OTHER.example:80","state":"gone"}', [6]),
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
    [({"since": "2023-11-14T22:13:20"}, "since: Input should have timezone info"), ({"since": 1_700_000_000}, "since"),
     ({"until": "yesterday"}, "until"), ({"first_position": -1}, "first_position"), ({"last_position": "1"}, "last_p"),
     ({"first_position": 2**63}, "first_position"), ({"last_position": 1.5}, "last_position"),
     ({"receiver": ""}, "receiver"), ({"receiver": "x" * 301}, "receiver"), ({"receiver": 7}, "receiver"),
     ({"id": "x"}, "id: Extra inputs")],
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


# The door


PLACES = (("GET", f"/jobs/{UNKNOWN}/deliveries"), ("POST", f"/jobs/{UNKNOWN}/deliveries/redeliver"),
          ("GET", "/deliveries"), ("POST", "/deliveries/redeliver"))  # fmt: skip


@pytest.mark.parametrize(("method", "path"), PLACES)
async def test_deliveries_are_behind_the_token(tmp_path, method, path):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url, token="t") as foreman:
        refused(await foreman.client.request(method, path), 401, "unauthorized")
        inside = await foreman.client.request(method, path, headers={"authorization": "Bearer t"})
        assert inside.status_code != 401


@pytest.mark.parametrize(("method", "path"), PLACES)
async def test_other_methods_are_refused_in_foremans_words(tmp_path, method, path):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url) as foreman:
        response = await foreman.client.request("DELETE", path)
        refused(response, 405, "method_not_allowed", f"only {method}")
        assert response.headers["allow"] == method


@pytest.mark.parametrize("path", ["/deliveries/", "/deliveries/1", f"/jobs/{UNKNOWN}/deliveries/1", "/deliveries/x/y"])
async def test_place_that_is_not_there_is_404_in_foremans_words(tmp_path, path):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url) as foreman:
        refused(await foreman.client.get(path), 404, "not_found", path)
