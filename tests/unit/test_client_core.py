"""The client without its connection: what is asked, when it is asked again, and when it is given up."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field

import pytest

from foreman.client import (
    IdempotencyMismatch,
    JobCancelled,
    JobFailed,
    NotFound,
    QueueFull,
    RequestInvalid,
    Retry,
    Unauthorized,
    UnexpectedAnswer,
    Unreachable,
    WaitTimeout,
    Webhook,
)
from foreman.client.core import Answer, Item, Lost, Pause, Request
from foreman.client.operations import Operations
from foreman.errors import ForemanError

JOB_ID = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
GONE = Lost(Unreachable("foreman cannot be reached"), sent=False)
BROKEN = Lost(Unreachable("the connection broke"))


def job(state="queued", job_id=JOB_ID, **members):
    at = "2026-01-02T03:04:05.678901Z"
    told = {"job_id": job_id, "state": state, "model": "a", "endpoint": "chat", "class": "batch", "source": "async"}
    told |= {"attempt": 0, "max_attempts": 3, "created_at": at, "updated_at": at, "version": 1, "log_position": 7}
    return {**told, **members}


def ok(value, status=200, **headers):
    return Answer(
        status=status, headers={"content-type": "application/json", **headers}, body=json.dumps(value).encode()
    )


def error(status, code, message="no", **headers):
    return ok({"error": message, "code": code}, status, **headers)


class Exhausted(Exception):
    """The operation asks for more than the script has."""


@dataclass
class Played:
    """An operation, driven by hand on a clock that only its pauses move."""

    retry: Retry = field(default_factory=Retry)
    now: float = 1_000.0
    requests: list[Request] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)
    items: list = field(default_factory=list)

    def operations(self):
        return Operations(self.retry, now=lambda: self.now, chance=lambda: 1.0)

    def play(self, operation, replies: Iterable):
        """What it returns, given these replies; all of them have to be used."""
        left, reply = iter(replies), None
        while True:
            try:
                step = operation.send(reply)
            except StopIteration as end:
                assert next(left, None) is None
                return end.value
            reply = None
            if isinstance(step, Item):
                self.items.append(step.value)
            elif isinstance(step, Pause):
                self.pauses.append(step.seconds)
                self.now += step.seconds
            else:
                if isinstance(step, Request):
                    self.requests.append(step)
                if (reply := next(left, None)) is None:
                    raise Exhausted
                if callable(reply):
                    reply = reply(self)

    def run(self, name, /, *replies, **arguments):
        return self.play(getattr(self.operations(), name)(**arguments), replies)


def test_a_submission_that_gets_no_answer_is_repeated_under_its_key():
    played = Played()
    done = played.run("submit", GONE, BROKEN, error(503, "shutting_down"), ok(job(), 202), model="a", prompt="hi")
    assert done.job_id == JOB_ID
    assert len({request.headers["idempotency-key"] for request in played.requests}) == 1
    assert len({request.body for request in played.requests}) == 1
    assert len(played.requests) == 4


def test_two_submissions_have_two_keys_and_a_given_key_is_kept():
    played = Played()
    for key in (None, None, "mine"):
        played.run("submit", ok(job(), 202), model="a", prompt="hi", idempotency_key=key)
    keys = [request.headers["idempotency-key"] for request in played.requests]
    assert keys[2] == "mine"
    assert len(set(keys)) == 3


def test_pauses_double_up_to_the_longest_and_end_with_the_time_given():
    played = Played(Retry(within_s=10, first_s=1, most_s=4))
    with pytest.raises(Unreachable):
        played.run("get", *[GONE] * 5, job_id=JOB_ID)
    assert played.pauses == [1, 2, 4]


def test_without_patience_the_first_trouble_is_raised():
    played = Played(Retry(within_s=0))
    with pytest.raises(Unreachable):
        played.run("get", GONE, job_id=JOB_ID)
    assert played.pauses == []


def test_a_wish_of_the_daemon_to_be_left_alone_is_respected():
    played = Played(Retry(within_s=60))
    played.run("get", error(503, "queue_full", **{"retry-after": "20"}), ok(job()), job_id=JOB_ID)
    assert played.pauses == [pytest.approx(22)]
    with pytest.raises(QueueFull):  # at once: there is no use in asking sooner
        Played().run("get", error(503, "queue_full", **{"retry-after": "300"}), job_id=JOB_ID)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (error(401, "unauthorized"), Unauthorized),
        (error(422, "idempotency_mismatch"), IdempotencyMismatch),
        (error(400, "invalid_request"), RequestInvalid),
        (error(404, "a_code_of_tomorrow"), NotFound),
        (error(418, "a_code_of_tomorrow"), ForemanError),
        (Answer(status=404, body=b"404 page not found"), UnexpectedAnswer),
        (Answer(status=403), UnexpectedAnswer),
        (Answer(status=302, headers={"location": "/login"}), UnexpectedAnswer),
        (Answer(status=200, body=b"<html>"), UnexpectedAnswer),
        (ok({"hello": "world"}), UnexpectedAnswer),
        (ok([]), UnexpectedAnswer),
    ],
    ids=lambda value: value.body[:40].decode() or str(value.status) if isinstance(value, Answer) else value.__name__,
)
def test_an_answer_that_will_not_change_is_raised_at_once(answer, kind):
    played = Played()
    with pytest.raises(ForemanError) as caught:
        played.run("get", answer, job_id=JOB_ID)
    assert type(caught.value) is kind
    assert played.pauses == []


def test_an_error_keeps_a_code_and_a_hint_that_this_version_does_not_know():
    with pytest.raises(NotFound) as caught:
        Played().run("get", ok({"error": "no", "code": "of_tomorrow", "hint": "look"}, 404), job_id=JOB_ID)
    assert (caught.value.code, caught.value.hint, str(caught.value)) == ("of_tomorrow", "look", "no")
    assert (NotFound.code, NotFound.hint) == ("not_found", "")


def test_what_would_send_webhooks_twice_is_not_repeated_once_it_may_have_arrived():
    played = Played()
    assert played.run("redeliver", GONE, error(503, "shutting_down"), ok({"redelivered": 2}, 202), job_id=JOB_ID) == 2
    for trouble in (BROKEN, Answer(status=502)):
        with pytest.raises(ForemanError):
            played.run("redeliver", trouble, job_id=JOB_ID)


def test_waiting_asks_again_until_the_job_is_over():
    played = Played()
    assert played.run("wait", ok(job()), ok(job("working")), BROKEN, ok(job("failed")), job_id=JOB_ID).state == "failed"
    assert [request.params["wait"] for request in played.requests] == ["30.000s"] * 4


def test_waiting_ends_with_its_own_time_limit():
    played = Played()

    def later(played):
        played.now += float(played.requests[-1].params["wait"].removesuffix("s"))
        return ok(job("working"))

    with pytest.raises(WaitTimeout, match="still working after 40 s") as caught:
        played.run("wait", later, later, job_id=JOB_ID, timeout=40)
    assert isinstance(caught.value, TimeoutError)
    assert [request.params["wait"] for request in played.requests] == ["30.000s", "10.000s"]


def test_a_job_without_an_answer_raises_how_it_ended():
    failed = job("failed", error={"message": "no such layer", "code": "target_refused", "status": 500})
    with pytest.raises(JobFailed, match="no such layer") as caught:
        Played().run("completion", ok(failed), job_id=JOB_ID)
    assert (caught.value.code, caught.value.job_id) == ("target_refused", JOB_ID)
    with pytest.raises(JobCancelled):
        Played().run("completion", ok(job("cancelled")), job_id=JOB_ID)


def test_a_completion_has_text_thinking_and_tools():
    tool = {"function": {"name": "look", "arguments": {}}}
    said = {"message": {"content": "yes", "thinking": "hm", "tool_calls": [tool]}, "done": True}
    answer = Played().run("completion", ok(job("done")), ok(said), job_id=JOB_ID)
    assert (answer.text, answer.thinking, answer.tool_calls, answer.raw) == ("yes", "hm", (tool,), said)
    answer = Played().run("completion", ok(job("done")), ok({"response": "no"}), job_id=JOB_ID)
    assert (answer.text, answer.thinking, answer.tool_calls) == ("no", "", ())


def test_members_of_the_request_go_out_as_they_were_given():
    played = Played()
    played.run(
        "submit",
        ok(job(), 202),
        model="a",
        messages=[{"role": "user", "content": "grüße 🙂"}],
        options={"seed": 1},
        keep_alive=0,
        job_class="interactive",
        webhook=Webhook(url="http://127.0.0.1/hook", events=("done",), secret="s"),
        format="json",
    )
    assert json.loads(played.requests[0].body) == {
        "model": "a",
        "messages": [{"role": "user", "content": "grüße 🙂"}],
        "options": {"seed": 1},
        "keep_alive": 0,
        "class": "interactive",
        "state_webhook_url": "http://127.0.0.1/hook",
        "webhook_events": ["done"],
        "webhook_secret": "s",
        "format": "json",
    }


@pytest.mark.parametrize(
    "prompt", ["\ud800", float("nan"), object(), {1, 2}], ids=["surrogate", "nan", "object", "set"]
)
def test_what_is_no_json_is_refused_before_anything_is_sent(prompt):
    played = Played()
    with pytest.raises(RequestInvalid, match="cannot be written as JSON"):
        played.run("submit", model="a", prompt=prompt)
    assert played.requests == []


@pytest.mark.parametrize("job_id", ["", "..", "a/b", "a?b", "a" * 65, "\n", 7])
def test_what_is_no_job_id_is_not_asked_for(job_id):
    for name in ("get", "cancel", "wait", "retry", "stream"):
        played = Played()
        with pytest.raises(RequestInvalid):
            played.run(name, job_id=job_id)
        assert played.requests == []


@pytest.mark.parametrize("key", ["", " ", " a", "a ", "a\nb", "schlüssel", "k" * 241])
def test_a_key_that_no_header_can_hold_is_refused(key):
    with pytest.raises(RequestInvalid, match="idempotency key"):
        Played().run("submit", model="a", prompt="x", idempotency_key=key)


@pytest.mark.parametrize("name", ["..", "", "a/b", ".hidden"])
def test_what_is_no_name_of_an_artifact_is_not_asked_for(name):
    with pytest.raises(RequestInvalid):
        Played().run("artifact", job_id=JOB_ID, name=name)


def test_many_jobs_go_in_chunks_each_under_a_key_of_its_own():
    played = Played()
    bodies = [{"model": "a", "prompt": f"{number}"} for number in range(5)]
    replies = [
        ok({"jobs": [job(job_id=f"J{number}") for number in numbers]}, 202) for numbers in ((0, 1), (2, 3), (4,))
    ]
    played.run("submit_many", replies[0], BROKEN, *replies[1:], jobs=iter(bodies), chunk=2, idempotency_key="day-1")
    assert [item.job_id for item in played.items] == [f"J{number}" for number in range(5)]
    assert [request.headers["idempotency-key"] for request in played.requests] == [
        "day-1-0",
        "day-1-1",
        "day-1-1",
        "day-1-2",
    ]
    sent = [[json.loads(line) for line in request.body.split(b"\n")] for request in played.requests]
    assert sent == [bodies[:2], bodies[2:4], bodies[2:4], bodies[4:]]


def test_no_job_is_taken_from_the_caller_before_it_is_needed():
    taken = []

    def jobs():
        for number in range(1_000_000):
            taken.append(number)
            yield {"model": "a", "prompt": "x"}

    operation = Played().operations().submit_many(jobs(), chunk=10)
    operation.send(None)
    assert len(taken) <= 11
    operation.close()


def test_large_jobs_make_smaller_chunks():
    played = Played()
    bodies = [{"model": "a", "prompt": "x" * (5 << 20)} for _ in range(3)]
    played.run("submit_many", *[ok({"jobs": [job()]}, 202)] * 3, jobs=bodies)
    assert len(played.items) == 3


def test_a_fault_in_a_batch_names_the_job_by_its_number_among_all():
    played = Played()
    bodies = [{"model": "a", "prompt": "x"}] * 4
    accepted = ok({"jobs": [job(), job()]}, 202)
    with pytest.raises(RequestInvalid, match=r"^job 4: 'model' is missing"):
        played.run(
            "submit_many", accepted, error(400, "invalid_request", "job 2: 'model' is missing"), jobs=bodies, chunk=2
        )
    assert len(played.items) == 2


def test_pages_are_asked_for_as_they_are_used_up():
    played = Played()
    pages = [
        ok({"jobs": [job(job_id="J1"), job(job_id="J2")], "next": "x"}),
        ok({"jobs": [job(job_id="J3")], "next": None}),
    ]
    played.run("list_jobs", *pages, state=["done", "failed"], job_class="batch", page=2)
    assert [item.job_id for item in played.items] == ["J1", "J2", "J3"]
    first = {"state": "done,failed", "class": "batch", "limit": 2}
    assert [request.params for request in played.requests] == [first, {**first, "cursor": "x"}]


def test_what_a_newer_daemon_adds_is_kept_and_does_no_harm():
    told = job("paused", queue={"position": 1, "ahead": 0, "mood": "good"}, mood="good")
    done = Played().run("get", ok(told), job_id=JOB_ID)
    assert (done.state, done.finished, done.raw["mood"], done.place.raw["mood"]) == ("paused", False, "good", "good")
    assert done.created_at.utcoffset().total_seconds() == 0


def test_a_repr_shows_no_secret():
    assert "geheim" not in repr(Webhook(url="http://127.0.0.1", secret="geheim"))
    played = Played()
    played.run("submit", ok(job(), 202), model="a", prompt="a private matter")
    assert "private" not in repr(played.requests)
