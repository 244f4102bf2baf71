"""A job as JSON: every member in every state, and nothing decoded that was the target's."""

from __future__ import annotations

import orjson
import pytest

from foreman.api.render import event_object, job_object
from foreman.fsm.job import State
from foreman.projections.queue import Place
from tests.core import CANCELLED, DONE, FAILED, HISTORIES, QUEUED, REQUEUED, WORKING, job_after, recorded

URL = "http://foreman"


def shown(*events, **more):
    return orjson.loads(orjson.dumps(job_object(job_after(*events), base_url=URL, **more)))


@pytest.mark.parametrize("state", [state for state in State if state is not State.NEW])
def test_job_has_the_same_members_in_every_state(state):
    job = shown(*HISTORIES[state])
    assert job["state"] == state
    assert job.keys() == shown(QUEUED).keys()


def test_times_are_utc_text_or_null():
    job = shown(QUEUED, WORKING)
    assert (job["created_at"], job["started_at"]) == ("1970-01-01T00:00:01.000000Z", "1970-01-01T00:00:02.000000Z")
    assert job["completed_at"] is None


def test_failure_says_why_and_a_broken_attempt_is_none_yet():
    assert shown(QUEUED, FAILED)["error"] == {"message": FAILED.error, "code": FAILED.code, "status": 404}
    waiting = shown(QUEUED, WORKING, REQUEUED)
    assert (waiting["error"], waiting["last_attempt_error"]) == (None, "it broke")


def test_cancelled_job_says_by_whom():
    assert shown(QUEUED, CANCELLED)["error"]["by"] == "api"


def test_artifact_is_shown_as_the_target_wrote_it():
    job = job_object(job_after(QUEUED, WORKING, DONE), base_url=URL, inline={"completion": b'{"n":1.0, "n":1.0}'})
    assert b'"data":{"n":1.0, "n":1.0}' in orjson.dumps(job)
    (artifact,) = shown(QUEUED, WORKING, DONE)["artifacts"]
    assert "data" not in artifact
    assert artifact["url"] == "http://foreman/jobs/J/artifacts/completion"


def test_place_in_the_queue_is_shown_while_there_is_one():
    place = Place(position=3, ahead=2, ahead_by_key={"a": 2}, loads=1)
    assert shown(QUEUED, place=place)["queue"] == {"position": 3, "ahead": 2}
    assert shown(QUEUED)["queue"] is None


def test_event_is_shown_with_its_place_and_hash():
    (item,) = recorded(QUEUED)
    event = orjson.loads(orjson.dumps(event_object(item)))
    assert (event["position"], event["type"], event["hash"]) == (1, "job.queued", "01" * 32)
    assert event["data"]["model"] == "a"
