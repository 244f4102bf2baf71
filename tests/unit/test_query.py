"""Query strings: what each route takes, with every fault named."""

from __future__ import annotations

import pytest
from sanic import Request, Sanic
from sanic.compat import Header

from foreman.api.query import (
    DeliveriesQuery,
    ListQuery,
    QueueQuery,
    StatisticsQuery,
    StreamQuery,
    WaitQuery,
    cursor,
    position_in,
    read_query,
    wanted_wait,
)
from foreman.errors import RequestInvalid
from foreman.fsm.job import State

Sanic.test_mode = True
APP = Sanic("query")


def request(query: str = "", **headers: str) -> Request:
    return Request(f"/jobs?{query}".encode(), Header(headers), "1.1", "GET", None, APP)


def fault(shape, query: str) -> str:
    with pytest.raises(RequestInvalid) as caught:
        read_query(shape, request(query))
    return str(caught.value)


def test_list_takes_its_filters():
    query = read_query(ListQuery, request("state=queued,%20done&class=batch&model=a%3Ab&limit=7"))
    assert (query.states(), query.job_class, query.model, query.limit) == (
        (State.QUEUED, State.DONE),
        "batch",
        "a:b",
        7,
    )


def test_list_without_filters_asks_for_everything():
    query = read_query(ListQuery, request())
    assert (query.states(), query.before(), query.limit) == (None, None, 100)


@pytest.mark.parametrize(
    ("query", "named"),
    [("limit=0", "'limit'"), ("limit=1001", "'limit'"), ("limit=x", "'limit'"), ("class=urgent", "'class'"),
     ("job_class=batch", "'job_class' is not a parameter here"), ("stat=done", "'stat' is not a parameter here"),
     ("limit=1&limit=2", "'limit' is given twice")],
)  # fmt: skip
def test_fault_names_its_parameter(query, named):
    assert named in fault(ListQuery, query)


def test_every_fault_is_named_at_once():
    message = fault(ListQuery, "limit=0&source=mail&x=1")
    assert all(name in message for name in ("'limit'", "'source'", "'x'"))


@pytest.mark.parametrize("state", ["new", "ready", "", "done,"])
def test_state_that_is_none_is_refused_with_those_there_are(state):
    with pytest.raises(RequestInvalid, match="queued, loading"):
        read_query(ListQuery, request(f"state={state}")).states()


def test_deliveries_take_their_filters():
    query = read_query(DeliveriesQuery, request("state=dead&receiver=hooks.example:80&limit=7"))
    assert (query.state, query.receiver, query.limit, query.cursor) == ("dead", "hooks.example:80", 7, None)
    assert read_query(DeliveriesQuery, request()).limit == 100


@pytest.mark.parametrize(
    ("query", "named"),
    [("state=done", "'state'"), ("state=", "'state'"), ("receiver=", "'receiver'"), ("limit=1001", "'limit'"),
     (f"receiver={'x' * 301}", "'receiver'"), ("job_id=J", "'job_id' is not a parameter here")],
)  # fmt: skip
def test_fault_of_a_question_about_deliveries_names_its_parameter(query, named):
    assert named in fault(DeliveriesQuery, query)


def test_queue_shows_no_more_than_twenty_jobs_of_a_load_key():
    assert (read_query(QueueQuery, request()).limit, read_query(QueueQuery, request("limit=20")).limit) == (10, 20)
    assert "'limit'" in fault(QueueQuery, "limit=21")


@pytest.mark.parametrize("query", ["window=2h", "window=", "window=1H", "window=60m"])
def test_window_that_there_is_none_of_is_refused_with_those_there_are(query):
    assert "'1h', '6h', '24h', '7d' or '30d'" in fault(StatisticsQuery, query)


def test_page_without_a_cursor_is_the_first():
    assert position_in(None) is None


@pytest.mark.parametrize("position", [0, 1, 99, 12_345, 2**63 - 1])
def test_cursor_leads_back_to_its_position(position):
    assert read_query(ListQuery, request(f"cursor={cursor(position)}")).before() == position


@pytest.mark.parametrize("text", ["", "x", "!!", cursor(2**63), cursor(-1), "YWJj"])
def test_cursor_that_foreman_did_not_make_is_refused(text):
    with pytest.raises(RequestInvalid, match="'cursor'"):
        read_query(ListQuery, request(f"cursor={text}")).before()


@pytest.mark.parametrize(("text", "seconds"), [("30", 30), ("0", 0), ("1m", 60), ("1.5s", 1.5)])
def test_wait_is_seconds_or_a_duration(text, seconds):
    assert wanted_wait(WaitQuery(wait=text), request()) == (seconds, False)


@pytest.mark.parametrize("text", ["61", "2m", "-1s", "soon", "", "\u0663"])
def test_wait_that_cannot_be_granted_is_refused(text):
    with pytest.raises(RequestInvalid, match="'wait'"):
        wanted_wait(WaitQuery(wait=text), request())


@pytest.mark.parametrize(
    ("header", "granted"),
    [("wait=10", (10, True)), ("respond-async, WAIT = 10", (10, True)), ("wait=600", (60, True)),
     ("wait=soon", (0, False)), ("respond-async", (0, False))],
)  # fmt: skip
def test_preference_is_granted_as_far_as_it_goes(header, granted):
    assert wanted_wait(WaitQuery(), request(prefer=header)) == granted


def test_parameter_goes_before_preference():
    assert wanted_wait(WaitQuery(wait="5"), request(prefer="wait=10")) == (5, False)


def test_stream_is_followed_from_its_beginning_unless_told_otherwise():
    assert read_query(StreamQuery, request()) == StreamQuery(offset=0, run=1)
    assert "'offset'" in fault(StreamQuery, "offset=-1")
