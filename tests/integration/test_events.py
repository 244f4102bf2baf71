"""`GET /events`: the log in pages and as a stream, filtered, resumed, and never with what was said."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable

import httpx
import pytest
from sanic.server.protocols.base_protocol import SanicProtocol

from foreman.commands.types import Note
from foreman.events.codec import CODEC
from foreman.events.daemon import TargetDegraded
from foreman.events.feed import OUTBOX
from foreman.events.log import SCANNED
from tests.core import DEGRADED, SWAPPED
from tests.fakes.ollama import FakeOllama
from tests.integration.events_kit import SSE, deaf, follow
from tests.kit import PATIENCE_S, Running, running

#: Events that no socket's buffers hold: each some kilobytes.
LONG = Note(event=TargetDegraded(error="x" * 5_000))
MANY = 1_500


@pytest.fixture
async def fake():
    async with FakeOllama(models=["a", "b"]) as fake:
        yield fake


@pytest.fixture
async def foreman(tmp_path, fake):
    async with running(tmp_path, fake.url) as foreman:
        await foreman.until(lambda: foreman.foreman.ledger.feed.position == 2)  # started, and the target found
        yield foreman


async def page(foreman: Running, **params) -> dict:
    answer = await foreman.client.get("/events", params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def pages(foreman: Running, **params) -> list[dict]:
    """All pages from the beginning to the head."""
    found = [await page(foreman, **params)]
    while found[-1]["next"] < found[-1]["head"]:
        found.append(await page(foreman, **{**params, "after": found[-1]["next"]}))
    return found


async def listed(foreman: Running, **params) -> list[dict]:
    return [event for found in await pages(foreman, **params) for event in found["events"]]


async def note(foreman: Running, *notes: Note) -> None:
    await asyncio.gather(*map(foreman.foreman.ledger.execute, notes))


async def worked(foreman: Running) -> list[str]:
    """Two jobs of one model and one of another, all of them done."""
    job_ids = [await foreman.submit(model) for model in ("a", "b", "a")]
    await foreman.until_finished(*job_ids)
    return job_ids


async def refusal(foreman: Running, query: str, **headers: str) -> tuple[int, str]:
    answer = await foreman.client.get(f"/events?{query}", headers=headers)
    return answer.status_code, answer.json()["error"]


@pytest.mark.parametrize("limit", [1, 3, 100])
async def test_pages_join_to_the_log(foreman, limit):
    await worked(foreman)
    events = await listed(foreman, limit=limit)
    assert [(event["position"], event["stream"], event["hash"]) for event in events] == [
        (item.position, item.stream, item.hash.hex()) for item in await foreman.events()
    ]
    assert max(len(found["events"]) for found in await pages(foreman, limit=limit)) <= limit


async def test_page_at_the_head_is_empty_and_leads_to_itself(foreman):
    await worked(foreman)
    head = len(await foreman.events())
    assert await page(foreman, after=head) == {"events": [], "next": head, "head": head}


async def test_events_are_those_that_the_job_shows(foreman):
    for job_id in await worked(foreman):
        shown = (await foreman.client.get(f"/jobs/{job_id}/events")).json()["events"]
        assert await listed(foreman, job=job_id.lower(), limit=2) == shown
        assert len(shown) >= 3


@pytest.mark.parametrize("limit", [1, 100])
async def test_filters_leave_out_everything_else(foreman, limit):
    first, other, second = await worked(foreman)
    whole = await listed(foreman)
    types = {"job.queued", "job.done"}

    async def only(**params):
        return await listed(foreman, limit=limit, **params)

    assert await only(type="job.done, job.queued") == [event for event in whole if event["type"] in types]
    assert await only(model="A:latest") == [event for event in whole if event["stream"] in {first, second}]
    assert await only(job="daemon") == [event for event in whole if event["stream"] == "daemon"]
    assert [event["stream"] for event in await only(model="library/b", type="job.done")] == [other]
    assert (await page(foreman, type="daemon.started"))["next"] == len(whole)
    assert await only(model="a", job=other) == await only(model="none") == []


async def test_rare_event_is_found_in_bounded_steps_that_never_go_back(foreman):
    await note(foreman, *[Note(event=DEGRADED)] * (2 * SCANNED), Note(event=SWAPPED))
    found = await pages(foreman, type="model.swapped")
    assert [len(step["events"]) for step in found] == [0, 0, 1]
    assert [step["next"] for step in found] == [SCANNED, 2 * SCANNED, found[0]["head"]]
    async with follow(foreman.client, after=0, type="model.swapped") as followed:
        assert [message.event for message in await followed.heard(1)] == ["model.swapped"]
        assert followed.comments == 2


async def test_type_that_is_none_is_refused_with_those_there_are(foreman):
    status, error = await refusal(foreman, "type=job.done,job.finished")
    assert status == 400
    assert "'job.finished' is none of" in error
    assert all(known in error for known in CODEC.types)


@pytest.mark.parametrize(
    ("query", "status", "named"),
    [("after=-1", 400, "'after'"), ("after=x", 400, "'after'"), ("limit=0", 400, "'limit'"), ("type=", 400, "'type'"),
     ("limit=1001", 400, "'limit'"), ("model=", 400, "'model'"), ("since=1", 400, "'since' is not a parameter here"),
     ("job=me", 400, "this is no job id"), ("job=01M814HEXR55BR7S3X0ERKY7RV", 404, "there is no job"),
     ("after=1000000", 400, "a position in another log")],
)  # fmt: skip
async def test_fault_of_a_question_is_named(foreman, query, status, named):
    answered, error = await refusal(foreman, query)
    assert (answered, named in error) == (status, True)


@pytest.mark.parametrize("last_id", ["", "x", "-1", "1.0", "1" * 19])
async def test_id_that_foreman_never_gave_is_refused(foreman, last_id):
    status, error = await refusal(foreman, "", **SSE, **{"last-event-id": last_id})
    assert (status, "'Last-Event-ID'" in error) == (400, True)


async def test_stream_has_no_limit(foreman):
    assert (await refusal(foreman, "limit=5", **SSE))[0] == 400


@pytest.mark.parametrize(
    ("accept", "given"),
    [("*/*", "application/json"), ("text/html", "application/json"), ("application/json", "application/json"),
     ("text/event-stream", "text/event-stream"), ("text/event-stream, */*;q=0.1", "text/event-stream"),
     ("application/json, text/event-stream;q=0.5", "application/json")],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_stream_is_for_who_accepts_one(foreman, accept, given, method):
    async with foreman.client.stream(method, "/events", headers={"accept": accept}) as answer:
        assert (answer.status_code, answer.headers["content-type"]) == (200, given)
        streamed = {"cache-control": "no-cache", "x-accel-buffering": "no"}
        assert streamed.items() <= answer.headers.items() or given != "text/event-stream"
        if method == "HEAD":
            assert await answer.aread() == b""


async def test_feed_is_behind_the_token(tmp_path, fake):
    async with running(tmp_path, fake.url, token="secret") as foreman:
        assert (await refusal(foreman, ""))[0] == (await refusal(foreman, "after=0", **SSE))[0] == 401


async def test_stream_from_the_beginning_is_the_log_and_goes_on(foreman):
    await worked(foreman)
    known = await listed(foreman)
    async with follow(foreman.client, after=0) as followed:
        await followed.heard(len(known))
        assert followed.events() == known
        await note(foreman, Note(event=SWAPPED))
        last = (await followed.heard(len(known) + 1))[-1]
    assert (last.id, last.event, last.data["type"]) == (str(len(known) + 1), "model.swapped", "model.swapped")
    assert [message.id for message in followed.messages] == [str(event["position"]) for event in followed.events()]
    assert followed.retry == 2_000


async def test_stream_without_a_place_is_live_and_says_where_it_begins(foreman):
    await worked(foreman)
    head = len(await foreman.events())
    async with follow(foreman.client) as followed:
        assert (followed.last_id, followed.messages) == (str(head), [])
        await note(foreman, Note(event=SWAPPED))
        assert [message.id for message in await followed.heard(1)] == [str(head + 1)]


async def test_last_id_goes_before_the_parameter(foreman):
    await worked(foreman)
    known = await listed(foreman)
    async with follow(foreman.client, last_id=4, after=2) as followed:
        await followed.heard(len(known) - 4)
        assert followed.events() == known[4:]


async def test_stream_is_filtered_as_pages_are(foreman):
    job_id, *_ = await worked(foreman)
    params = {"type": "job.done,job.queued", "model": "a"}
    expected = await listed(foreman, **params)
    async with (
        follow(foreman.client, after=0, **params) as followed,
        follow(foreman.client, after=0, job=job_id) as of_job,
    ):
        await followed.heard(len(expected))
        assert followed.events() == expected
        shown = await listed(foreman, job=job_id)
        await of_job.heard(len(shown))
        assert of_job.events() == shown
        await foreman.until_finished(await foreman.submit("b"), await foreman.submit("a"))
        await followed.heard(len(expected) + 2)
        assert followed.events() == await listed(foreman, **params)
        assert of_job.events() == shown


async def test_position_of_another_log_is_answered_with_a_reset(foreman):
    await worked(foreman)
    head = len(await foreman.events())
    async with follow(foreman.client, last_id=head + 1) as followed:
        (reset,) = await followed.heard(1)
        assert (reset.id, reset.event) == (str(head), "reset")
        assert reset.data == {"reason": "unknown_position", "head": head}
        await note(foreman, Note(event=SWAPPED))
        assert (await followed.heard(2))[1].id == str(head + 1)


async def test_silence_is_broken_by_comments(foreman):
    foreman.foreman.desk.follower_silence_s = 0.02
    async with follow(foreman.client) as followed:
        await followed.until(lambda: followed.comments >= 3)
        assert (followed.messages, followed.ended) == ([], False)


async def test_follower_of_something_rare_is_told_how_far_the_log_is(foreman):
    foreman.foreman.desk.follower_silence_s = 0.02
    async with follow(foreman.client, type="job.failed") as followed, follow(foreman.client, job="daemon") as daemons:
        job_ids = await worked(foreman)
        head = len(await foreman.events())
        await followed.until(lambda: followed.last_id == str(head))
        await daemons.until(lambda: daemons.last_id == str(head))
        assert (followed.messages, job_ids == []) == ([], False)


async def test_follower_that_takes_nothing_is_cut_off_and_loses_nothing(foreman):
    foreman.foreman.desk.follower_patience_s = 0.05
    await note(foreman, *[LONG] * MANY)
    with deaf(foreman.url) as sock:
        async with follow(foreman.client, after=0) as other:
            await other.heard(MANY)
            await until(foreman, lambda: any(connection.transport.is_closing() for connection in connections(foreman)))
        heard = (await asyncio.to_thread(rest_of, sock)).decode()
    *_, last, reset = heard.split("id: ")[-1].split("\r\n0\r\n")[0].split("event: ")
    assert reset.startswith('reset\ndata: {"reason":"slow","head":')
    position = int(heard.split("id: ")[-1].partition("\n")[0])
    assert position < MANY
    async with follow(foreman.client, last_id=position) as resumed:
        assert int((await resumed.heard(1))[0].id) == position + 1
    assert last.startswith("target.degraded")


async def until(foreman: Running, true: Callable[[], object]) -> None:
    """Wait for what no event tells of."""
    async with asyncio.timeout(PATIENCE_S):
        while not true():
            await foreman.client.get("/healthz")


def connections(foreman: Running) -> list[SanicProtocol]:
    return [connection for server in foreman.foreman.http._servers for connection in server.connections]


def followers(foreman: Running) -> int:
    watchers = foreman.foreman.ledger.feed._watchers
    return sum(len(watching) for stream, watching in watchers.items() if stream != OUTBOX)


def rest_of(sock: socket.socket) -> bytes:
    """What has come and comes, to the end."""
    sock.settimeout(PATIENCE_S)
    return b"".join(iter(lambda: sock.recv(65536), b""))


async def test_follower_that_stays_deaf_is_let_go(foreman):
    desk = foreman.foreman.desk
    desk.follower_patience_s = 0.05
    await note(foreman, *[LONG] * MANY)
    with deaf(foreman.url):
        await until(foreman, lambda: followers(foreman) == 1)
        await until(foreman, lambda: followers(foreman) == 0)
        assert len(connections(foreman)) == 2  # it has some seconds to wake up, unless foreman closes
        desk.close()
        await until(foreman, lambda: len(connections(foreman)) == 1)


async def test_follower_that_leaves_leaves_nothing_behind(foreman):
    await foreman.client.get("/healthz")
    tasks = asyncio.all_tasks()
    async with (
        httpx.AsyncClient(base_url=foreman.url, timeout=PATIENCE_S) as client,
        follow(client),
        follow(client, type="job.done"),
        follow(client, job="daemon"),
    ):
        assert followers(foreman) == 3
    await until(foreman, lambda: not followers(foreman) and asyncio.all_tasks() <= tasks)


async def test_followers_do_not_hold_up_a_stop(foreman):
    await note(foreman, *[LONG] * MANY)
    with deaf(foreman.url):
        async with follow(foreman.client) as idle, follow(foreman.client, job="daemon", after=0) as behind:
            await behind.heard(MANY)
            began = time.monotonic()
            await foreman.foreman.stop()
            assert time.monotonic() - began < 2
            for followed in (idle, behind):
                await followed.until(lambda: False)
                assert (followed.ended, followed.broken) == (True, None)


async def test_what_was_said_is_in_no_event(foreman, fake):
    marker = "xyzzy"
    fake.inject("error_line", model="b", after=2, body="broken")
    async with follow(foreman.client, after=0) as followed:
        answer = await foreman.chat("a", f"{marker} one")
        assert marker in answer.json()["message"]["content"]
        job_ids = [await foreman.submit(model, f"two {marker}") for model in ("a", "b")]
        await foreman.until_finished(*job_ids)
        whole = await foreman.client.get("/events?limit=1000")
        await followed.until(lambda: followed.last_id == str(whole.json()["head"]))
    assert {"job.done", "job.failed"} <= {event["type"] for event in followed.events()}
    assert followed.events() == whole.json()["events"]
    assert marker not in whole.text
