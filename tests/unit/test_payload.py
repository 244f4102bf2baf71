"""The payload: the documented members at every state, and the job as its event left it though it has gone on since."""

from __future__ import annotations

import hashlib

import orjson
import pytest

from foreman.commands.types import CancelJob, FinishJob, RequeueJob, StartLoading, StartWorking
from foreman.events.types import CancelledBy, RequeueReason
from foreman.fsm.job import State
from foreman.projections.job import Metrics
from foreman.webhooks.payload import Style, body, payload
from tests.core import ANSWER, HISTORIES, LOADING, QUEUED, REQUEUED, STREAM, WORKING, job_after, opened

KEYS = [
    *("job_id", "state", "previous_state", "timestamp", "model", "attempt", "result", "artifacts", "error"),
    *("last_attempt_error", "version", "log_position", "log_hash"),
]
TOLD = [state for state in State if state not in (State.NEW, State.EXPIRED)]
STYLE = Style(base_url="https://queue.example", inline_limit_bytes=1_000)


@pytest.mark.parametrize("state", TOLD)
def test_every_state_has_the_same_members_and_null_for_what_it_has_not(state):
    told = payload(State.QUEUED, job_after(*HISTORIES[state]), "", {})
    assert list(told) == KEYS
    assert told["state"] == state
    assert (told["result"] is None, told["artifacts"] is None) == (state is not State.DONE, state is not State.DONE)
    assert (told["error"] is None) == (state not in (State.FAILED, State.CANCELLED))
    assert told["last_attempt_error"] is None


def test_the_first_one_has_no_previous_state():
    assert payload(State.NEW, job_after(QUEUED), "", {})["previous_state"] is None


def test_an_attempt_that_broke_is_no_error_of_the_jobs():
    told = payload(State.WORKING, job_after(QUEUED, WORKING, REQUEUED), "", {})
    assert (told["state"], told["previous_state"], told["error"]) == ("queued", "working", None)
    assert told["last_attempt_error"] == "it broke"


def test_a_later_attempt_still_says_how_the_last_one_broke():
    told = payload(State.QUEUED, job_after(QUEUED, WORKING, REQUEUED, LOADING), "", {})
    assert (told["state"], told["error"], told["last_attempt_error"]) == ("loading", None, "it broke")


async def test_a_delivery_tells_of_its_own_event_though_the_job_has_gone_on(tmp_path):
    async with opened(tmp_path) as core:
        job_id = await core.submitted()
        finish = FinishJob(job_id=job_id, metrics=Metrics(prompt_tokens=3), artifacts=(ANSWER, STREAM))
        requeue = RequeueJob(job_id=job_id, reason=RequeueReason.CONNECTION, error="it broke")
        start = (StartLoading(job_id=job_id, evicts=None), StartWorking(job_id=job_id))
        await core.do(*start, requeue, *start, finish)
        job = await core.ledger.job(job_id)
        events = await core.database.read(
            "SELECT position, hash FROM events WHERE stream = ? ORDER BY position", (job_id,)
        )
        told = [await body(core.database.read, job, position, STYLE) for position, _ in events]
        said = [orjson.loads(text) for _, text in told]
    assert [version for version, _ in told] == [item["version"] for item in said] == [1, 2, 3, 4, 5, 6, 7]
    assert [item["previous_state"] for item in said] == [None, *(item["state"] for item in said[:-1])]
    assert [item["state"] for item in said] == ["queued", "loading", "working"] * 2 + ["done"]
    assert [(item["log_position"], item["log_hash"]) for item in said] == [(at, hash_.hex()) for at, hash_ in events]
    assert said[3]["last_attempt_error"] == "it broke"
    assert [item["artifacts"] for item in said[:-1]] == [None] * 6
    completion, stream = said[-1]["artifacts"]
    assert completion["data"] == orjson.loads(ANSWER.data)
    assert completion["sha256"] == hashlib.sha256(ANSWER.data).hexdigest()
    assert stream["url"] == f"https://queue.example/jobs/{job_id}/artifacts/stream"


async def test_what_is_larger_than_the_limit_is_left_out(tmp_path):
    async with opened(tmp_path) as core:
        job_id = await core.submitted()
        start = (StartWorking(job_id=job_id), FinishJob(job_id=job_id, metrics=Metrics(), artifacts=(ANSWER,)))
        await core.do(*start)
        job = await core.ledger.job(job_id)
        for limit, shown in ((len(ANSWER.data), True), (len(ANSWER.data) - 1, False)):
            style = Style(base_url="", inline_limit_bytes=limit)
            _, text = await body(core.database.read, job, job.position, style)
            (artifact,) = orjson.loads(text)["artifacts"]
            assert ("data" in artifact) is shown
            assert artifact["url"] == f"/jobs/{job_id}/artifacts/completion"


async def test_each_attempt_makes_the_same_body(tmp_path):
    async with opened(tmp_path) as core:
        job_id = await core.submitted()
        first = await body(core.database.read, await core.ledger.job(job_id), 1, STYLE)
        await core.do(CancelJob(job_id=job_id, by=CancelledBy.API))
        assert await body(core.database.read, await core.ledger.job(job_id), 1, STYLE) == first
