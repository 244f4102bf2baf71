"""Webhooks over kill -9: every transition is told, in order and under one id, by a daemon that dies on the way.

`TEST_KILLS` sets the number of kills, `TEST_SEED` repeats a run's choices (what the clock decides it does not repeat).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import httpx

from foreman.client import SignatureInvalid, verify_signature
from foreman.fsm.job import FINISHED, State
from foreman.projections.job import Job
from tests.e2e.audit import Book
from tests.fakes.ollama import FakeOllama
from tests.fakes.receiver import Behaviour, Receiver, Wire, answer, drip, hang, reset, reset_midway, too_many
from tests.kit import Process

KILLS = int(os.environ.get("TEST_KILLS", "20"))
SEED = int(os.environ.get("TEST_SEED") or time.time_ns() % 1_000_000)
JOBS = 200
#: What was refused a sixth time waits a minute and some seconds; on a machine so slow that it comes to that.
PATIENCE_S = 90.0

#: Three in ten fail. Of so many deliveries hardly one then fails five times, and what follows is a wait of 16 s.
HOSTILE = {
    answer(): 0.70,
    answer(500): 0.08,
    too_many(1): 0.06,
    reset(): 0.06,
    reset_midway(): 0.04,
    hang(): 0.03,
    drip(0.1): 0.03,
}
#: What a webhook is signed with, by the path it comes to.
SECRETS = {"/hook": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLjSw", "/own": "a.secret.of.the.job's.own"}
FILTERS = ([], ["done"], ["working"], ["queued", "cancelled"])


@asynccontextmanager
async def daemons(path: Path, fake: FakeOllama, timeout: str = "500ms") -> AsyncIterator[Callable[[], Process]]:
    """Makes daemons that sign, and give a receiver so long. None of them outlives the block."""
    made: list[Process] = []

    def make() -> Process:
        made.append(Process(path, fake.url, webhook_timeout=timeout, webhook_secret=SECRETS["/hook"]))
        return made[-1]

    try:
        yield make
    finally:
        for process in made:
            await process.kill()


@contextmanager
def away() -> Iterator[str]:
    """The URL of a receiver that is not there, on a port that nobody else can take."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}/hook"


@asynccontextmanager
async def caller(url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=url, timeout=30, trust_env=False) as client:
        yield client


async def until(true: Callable[[], Awaitable[bool]]) -> None:
    """Ask again and again until it is true."""
    async with asyncio.timeout(PATIENCE_S):
        while not await true():
            await asyncio.sleep(0.05)


async def pending(client: httpx.AsyncClient) -> int:
    return (await client.get("/healthz")).json()["webhooks"]["pending"]


class Callers:
    """They submit jobs with webhooks, and cancel some, until there are enough; what foreman says of them is theirs."""

    def __init__(self, chance: random.Random, receiver: Receiver, dead: str) -> None:
        self.chance = chance
        self.accepted: list[str] = []  #: answered with 202
        self.unwanted: set[str] = set()  #: those somebody tried to cancel
        self.dead = dead
        self._urls = [receiver.url_for("127.0.0.1", "/hook"), receiver.url_for("127.0.0.1", "/own"), dead]

    def body(self) -> dict[str, object]:
        url = self.chance.choices(self._urls, weights=(16, 3, 1))[0]
        words = " ".join("word" for _ in range(self.chance.randint(1, 8)))
        body = {"model": self.chance.choice("ab"), "prompt": words, "state_webhook_url": url}
        if url.endswith("/own"):
            body["webhook_secret"] = SECRETS["/own"]
        if self.chance.random() < 0.15:
            body["webhook_events"] = self.chance.choice(FILTERS)
        return body

    async def trade(self, url: str, enough: int) -> None:
        """Two of them at once, until that many jobs are accepted or foreman is gone."""
        async with caller(url) as client, asyncio.TaskGroup() as group:
            for _ in range(2):
                group.create_task(self._trade(client, enough))

    async def _trade(self, client: httpx.AsyncClient, enough: int) -> None:
        with contextlib.suppress(httpx.TransportError):
            while len(self.accepted) < enough:
                bodies = [self.body() for _ in range(4 if self.chance.random() < 0.1 else 1)]
                response = await client.post("/jobs", json=bodies)
                assert response.status_code == 202, response.text
                job_ids = [job["job_id"] for job in response.json()["jobs"]]
                self.accepted += job_ids
                if self.chance.random() < 0.1:
                    self.unwanted.add(job_ids[-1])
                    assert (await client.delete(f"/jobs/{job_ids[-1]}")).status_code == 200


async def one_life(process: Process, callers: Callers, receiver: Receiver, enough: int) -> None:
    """From a start to a kill: while it starts, when a webhook was just answered, or whenever."""
    starting, trading = asyncio.create_task(process.start()), None
    kind = callers.chance.random()
    if kind < 0.15:
        await asyncio.wait({starting}, timeout=callers.chance.uniform(0.2, 0.7))
    else:
        trading = asyncio.create_task(callers.trade(await starting, enough))
        if kind < 0.6:
            with contextlib.suppress(TimeoutError):  # all that is pending may just be waiting
                async with asyncio.timeout(1):
                    await receiver.wait_for(len(receiver.arrivals) + callers.chance.randint(1, 30))
        else:
            await asyncio.sleep(callers.chance.uniform(0.02, 0.6))
    await process.kill()
    with contextlib.suppress(AssertionError):  # "foreman did not start"
        await starting
    if trading is not None:
        await trading


async def last_life(process: Process, callers: Callers, receiver: Receiver) -> None:
    """Have all jobs done, then the receiver well again, and all told but what nobody takes."""
    url = await process.start()
    await callers.trade(url, JOBS)
    async with caller(url) as client:
        for job_id in callers.accepted:
            assert (await client.get(f"/jobs/{job_id}", params={"wait": "30s"})).json()["state"] in {
                "done",
                "cancelled",
            }
        print(f"all jobs are finished, {await pending(client)} webhooks are pending")  # noqa: T201
        receiver.at_random(callers.chance, {answer(): 1})

        async def only_the_dead_are_left() -> bool:
            query = {"state": "pending", "receiver": httpx.URL(callers.dead).netloc.decode(), "limit": 1000}
            left = (await client.get("/deliveries", params=query)).json()["deliveries"]
            return len(left) == await pending(client)

        await until(only_the_dead_are_left)
    process.signal(signal.SIGTERM)
    assert await process.ended() == 0


def is_wanted(job: Job) -> bool:
    assert job.webhook is not None
    return job.webhook.events is None or job.state in FINISHED or job.state in job.webhook.events


def told(book: Book, job_id: str) -> list[tuple[int, str]]:
    """What a receiver should have heard of a job: version and state, in order."""
    return [(job.version, job.state) for job in book.history[job_id] if is_wanted(job)]


def untrue(book: Book, receiver: Receiver) -> list[str]:
    """What arrived and was not as the log has it, or not signed."""
    faults = []
    for arrival in receiver.arrivals:
        job_id, version = arrival.event
        before = book.history[job_id][version - 2].state if version > 1 else None
        job = book.history[job_id][version - 1]
        shown = [arrival.payload[key] for key in ("state", "previous_state", "log_position", "log_hash")]
        if shown != [job.state, before, job.position, job.log_hash] or job.log_hash != book.hash(job.position):
            faults.append(f"{arrival} says {shown} of {job}")
        try:
            at_s = float(arrival.headers["webhook-timestamp"])
            verify_signature(arrival.body, arrival.headers, SECRETS[arrival.path], now_s=at_s)
        except SignatureInvalid as fault:
            faults.append(f"{arrival}: {fault}")
    return faults


def check(book: Book, callers: Callers, receiver: Receiver) -> None:
    """The receiver's record against the log."""
    assert book.faults() == []
    assert set(callers.accepted) <= book.jobs.keys()
    assert {job.state for job in book.jobs.values()} <= {State.DONE, State.CANCELLED}
    assert {job.job_id for job in book.jobs.values() if job.state is State.CANCELLED} <= callers.unwanted
    unheard = {job_id for job_id, job in book.jobs.items() if job.webhook and job.webhook.url == callers.dead}
    expected = {job_id: told(book, job_id) for job_id in book.jobs.keys() - unheard}
    assert {job_id: receiver.first_arrivals(job_id) for job_id in expected} == expected
    assert {arrival.event[0] for arrival in receiver.arrivals} == expected.keys()
    assert untrue(book, receiver) == []
    assert receiver.ids_are_consistent() == []
    assert len({(arrival.id, arrival.body) for arrival in receiver.arrivals}) == sum(map(len, expected.values()))
    versions: dict[str, list[int]] = {}
    for arrival in receiver.arrivals:
        versions.setdefault(arrival.event[0], []).append(arrival.event[1])
    # More than the order of first arrivals: what was told of is never told of again after what followed it.
    assert [job_id for job_id, seen in versions.items() if seen != sorted(seen)] == []
    status = {job_id: {row.status for row in book.deliveries if row.job_id == job_id} for job_id in book.jobs}
    assert {job_id for job_id in book.jobs if status[job_id] == {"pending"}} == unheard
    assert {job_id for job_id in book.jobs if status[job_id] == {"delivered"}} == expected.keys()


async def one_life_in_peace(process: Process) -> None:
    """After it there is a database."""
    await process.start()
    process.signal(signal.SIGTERM)
    assert await process.ended() == 0


async def test_every_transition_is_told_in_order_over_kills_at_any_moment(tmp_path: Path) -> None:
    print(f"TEST_SEED={SEED} TEST_KILLS={KILLS}")  # noqa: T201  (shown by pytest if the test fails)
    chance = random.Random(SEED)
    fake = FakeOllama(["a", "b"], load_seconds=0.01, seconds_per_token=0.003)
    with away() as dead:
        async with fake, Receiver() as receiver, daemons(tmp_path, fake) as daemon:
            callers = Callers(chance, receiver, dead)
            receiver.at_random(random.Random(SEED), HOSTILE)
            await one_life_in_peace(daemon())
            for life in range(1, KILLS + 1):
                await one_life(daemon(), callers, receiver, JOBS * life // (KILLS + 1))
                assert Book(tmp_path / "foreman.db").faults() == []
            await last_life(daemon(), callers, receiver)
    book = Book(tmp_path / "foreman.db")
    check(book, callers, receiver)
    behaved = Counter(arrival.behaviour.name for arrival in receiver.arrivals)
    taken = Counter(arrival.id for arrival in receiver.arrivals if arrival.behaviour == answer())
    twice = sum(count > 1 for count in taken.values())  # answered with 200, and not recorded
    print(f"{len(book.jobs)} jobs, {len(receiver.arrivals)} arrivals, {twice} taken twice, {behaved}")  # noqa: T201


async def test_a_delivery_that_was_answered_but_not_recorded_is_made_again(tmp_path: Path) -> None:
    gate, answered = asyncio.Event(), asyncio.Event()

    async def act(wire: Wire) -> None:
        await gate.wait()
        await wire.answer(200)
        answered.set()

    async with FakeOllama(["a"]) as fake, Receiver() as receiver, daemons(tmp_path, fake, timeout="20s") as daemon:
        receiver.behave(Behaviour("hold, answer 200, say so", act))
        first_life, second_life = daemon(), daemon()
        async with caller(await first_life.start()) as client:
            job = {"model": "a", "prompt": "hello", "state_webhook_url": receiver.url, "webhook_events": []}
            assert (await client.post("/jobs", json=job)).status_code == 202
            await receiver.wait_for(1)
        first_life.signal(signal.SIGSTOP)  # from here on it can record nothing
        gate.set()
        await answered.wait()
        await first_life.kill()
        [row] = Book(tmp_path / "foreman.db").deliveries
        assert (row.status, row.attempts) == ("pending", 0)
        await second_life.start()
        first, second = await receiver.wait_for(2)
        second_life.signal(signal.SIGTERM)
        assert await second_life.ended() == 0
    assert (second.id, second.body) == (first.id, first.body)
    book = Book(tmp_path / "foreman.db")
    assert book.faults() == []
    assert [(row.status, row.attempts) for row in book.deliveries] == [("delivered", 1)]


async def test_jobs_are_done_while_no_webhook_has_been_answered(tmp_path: Path) -> None:
    async with FakeOllama(["a"]) as fake, Receiver() as receiver, daemons(tmp_path, fake, timeout="60s") as daemon:
        receiver.default = hang()
        process = daemon()
        async with caller(await process.start()) as client:
            job = {"model": "a", "prompt": "hello", "state_webhook_url": receiver.url}
            jobs = (await client.post("/jobs", json=[job] * 50)).json()["jobs"]
            for job_id in [job["job_id"] for job in jobs]:
                assert (await client.get(f"/jobs/{job_id}", params={"wait": "20s"})).json()["state"] == "done"
        await process.kill()
    book = Book(tmp_path / "foreman.db")
    assert book.faults() == []
    assert {(row.status, row.attempts) for row in book.deliveries} == {("pending", 0)}
    assert len(receiver.arrivals) == 4  # the most at a time to one receiver, and none of them has ended
