"""A job as JSON: every member in every state, and nothing decoded that was the target's."""

from __future__ import annotations

import orjson
import pytest
from msgspec.structs import replace

from foreman.api.render import delivery_object, event_object, job_object
from foreman.clock import Micros
from foreman.events.types import Position
from foreman.fsm.job import State
from foreman.projections.deliveries import Delivery
from foreman.projections.outbox import Attempt, Status
from tests.core import CANCELLED, DONE, FAILED, HISTORIES, QUEUED, REQUEUED, SELECTIVE, WORKING, job_after, recorded

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
    assert shown(QUEUED, queue={"position": 3, "ahead": 2})["queue"] == {"position": 3, "ahead": 2}
    assert shown(QUEUED)["queue"] is None


def test_event_is_shown_with_its_place_and_hash():
    (item,) = recorded(QUEUED)
    event = orjson.loads(orjson.dumps(event_object(item)))
    assert (event["position"], event["type"], event["hash"]) == (1, "job.queued", "01" * 32)
    assert event["data"]["model"] == "a"


def test_job_says_whom_it_tells_of_what():
    assert shown(replace(QUEUED, webhook=SELECTIVE))["webhook"] == {
        "url": "https://other.example/",
        "events": ["queued", "done"],
    }
    assert shown(QUEUED)["webhook"] is None


def delivery(status: Status, **members) -> Delivery:
    members = {"attempts": 0, "due": Micros(1_000_000), "ended": None, **members}
    return Delivery(
        position=Position(7),
        job_id="J",
        version=3,
        state="working",
        receiver="hooks.example:80",
        status=status,
        **members,
    )


def test_delivery_is_shown_with_every_attempt():
    made = Attempt(at=Micros(1_000_000), duration=2_500, address="192.0.2.7:80", status=503, reply="no", error="bad")
    item = delivery(Status.PENDING, attempts=1, due=Micros(2_500_000))
    assert orjson.loads(orjson.dumps(delivery_object(item, [made]))) == {
        "id": "J-3",
        "job_id": "J",
        "version": 3,
        "tells": "working",
        "log_position": 7,
        "receiver": "hooks.example:80",
        "state": "pending",
        "next_attempt_at": "1970-01-01T00:00:02.500000Z",
        "waits_for": None,
        "ended_at": None,
        "attempt_count": 1,
        "attempts": [
            {
                "at": "1970-01-01T00:00:01.000000Z",
                "address": "192.0.2.7:80",
                "status": 503,
                "milliseconds": 2.5,
                "reply": "no",
                "error": "bad",
            }
        ],
    }


@pytest.mark.parametrize("status", [Status.DELIVERED, Status.DEAD, Status.GONE])
def test_delivery_that_has_ended_says_when_and_not_when_next(status):
    item = delivery_object(delivery(status, due=Micros(9), ended=Micros(3_000_000)))
    assert (item["next_attempt_at"], item["ended_at"]) == (None, "1970-01-01T00:00:03.000000Z")


def test_delivery_that_waits_for_another_names_it_and_no_time():
    item = delivery_object(delivery(Status.PENDING), waits_for="J-2")
    assert (item["waits_for"], item["next_attempt_at"]) == ("J-2", None)
