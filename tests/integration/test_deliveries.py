"""Deliveries over HTTP: what became of each webhook, of one job and of all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import httpx
import pytest
from ulid import ULID

from foreman.clock import Micros
from foreman.commands.types import CancelJob, ExpireJob, RecordAttempt
from foreman.events.feed import OUTBOX
from foreman.events.types import CancelledBy, Webhook
from foreman.projections import deliveries
from foreman.projections.deliveries import DeliveryFilter
from foreman.projections.outbox import Attempt, Attempted, Outbox, Status
from tests.core import Core, HandClock, opened, submit
from tests.fakes.ollama import FakeOllama
from tests.fakes.receiver import Receiver, answer
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
        assert [(item["tells"], item["waits_for"]) for item in (first, last)] == [
            ("queued", None),
            ("done", first["id"]),
        ]
        clock.at += 2 * SECOND
        foreman.foreman.ledger.feed.wake(OUTBOX)
        await until(foreman, lambda outbox: not outbox.pending)
        first, last = await get(foreman, f"/jobs/{job_id}/deliveries")
        assert ([item["status"] for item in first["attempts"]], first["state"]) == ([503, 200], "delivered")
        assert first["attempts"][1]["error"] is None
        assert (last["id"], last["attempt_count"]) == (f"{job_id}-{len(await foreman.events(job_id))}", 1)
        assert first["ended_at"] == last["ended_at"] == last["attempts"][0]["at"]


async def test_expired_job_has_no_deliveries_left(tmp_path):
    async with FakeOllama(["a"]) as fake, Receiver() as receiver:
        async with opened(tmp_path) as core:
            job_id = await told(core, receiver.url, DEAD, DEAD)
            await core.do(ExpireJob(job_id=job_id))
        async with running(tmp_path, fake.url, clock=HandClock()) as foreman:
            assert await get(foreman, f"/jobs/{job_id}/deliveries") == []
            refused(await foreman.client.post(f"/jobs/{job_id}/deliveries/redeliver"), 410, "job_expired")


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
            assert await ids(receiver="Other.Example") == await ids(receiver="http://other.example./hook?a=b")
            assert await ids(receiver="other.example") == [f"{b}-2", f"{b}-1"]
            assert await ids(receiver="other.example:81") == await ids(receiver="https://other.example/") == []
            assert await ids(limit=1) == [f"{c}-2"]
            assert [len(item["attempts"]) for item in await get(foreman, "/deliveries")] == [1] * 6


async def test_list_shows_the_last_attempt_of_each_and_the_job_all_of_them(tmp_path):
    async with FakeOllama(["a"]) as fake, Receiver() as receiver:
        async with opened(tmp_path) as core:
            job_id = await told(core, receiver.url, DEAD, DEAD)
        async with running(tmp_path, fake.url, clock=HandClock()) as foreman:
            assert await redelivered(foreman, f"/jobs/{job_id}/deliveries", id=f"{job_id}-2") == 1
            await until(foreman, lambda outbox: not outbox.pending)
            listed = await get(foreman, "/deliveries")
            assert [([made["status"] for made in item["attempts"]], item["attempt_count"]) for item in listed] == [
                ([200], 2), ([500], 1)]  # fmt: skip
            shown = await get(foreman, f"/jobs/{job_id}/deliveries")
            assert [[made["status"] for made in item["attempts"]] for item in shown] == [[500], [500, 200]]


@pytest.mark.parametrize("query", ["state=dead", "limit=1", "x"])
async def test_deliveries_of_a_job_take_no_parameters(tmp_path, query):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url) as foreman:
        job_id = await foreman.submit("a")
        response = await foreman.client.get(f"/jobs/{job_id}/deliveries?{query}")
        refused(response, 400, "invalid_request", f"'{query.partition('=')[0]}' is not")


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
     ("state=dead&state=gone", "twice"), ("receiver=a:b:c", "'receiver'"), ("receiver=ftp://a/", "'receiver'"),
     ("receiver=me:pw@a", "'receiver'"), ("receiver=a:99999", "'receiver'")],
)  # fmt: skip
async def test_question_that_cannot_be_answered_names_its_fault(tmp_path, query, named):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url) as foreman:
        refused(await foreman.client.get(f"/deliveries?{query}"), 400, "invalid_request", named)


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
