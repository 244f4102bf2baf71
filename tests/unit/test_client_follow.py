"""Following without a connection: wherever the bytes break off, no line and no event is lost or comes twice."""

from __future__ import annotations

import json

import pytest

from foreman.client import (
    EventsArchived,
    JobCancelled,
    JobExpired,
    JobFailed,
    NewRun,
    PositionUnknown,
    Retry,
    UnexpectedAnswer,
    Unreachable,
)
from foreman.client.core import Answer
from foreman.client.follow import Lines
from tests.unit.test_client_core import BROKEN, GONE, JOB_ID, Exhausted, Played, error, job, ok

LINES = [{"message": {"content": f"w{number} "}, "done": False} for number in range(4)] + [{"done": True}]
BODY = b"".join(json.dumps(line).encode() + b"\n" for line in LINES)
FIRST = BODY[: BODY.index(b"\n") + 1]
OPENED = Answer(status=200, headers={"content-type": "application/x-ndjson"})
FEED = Answer(status=200, headers={"content-type": "text/event-stream; charset=utf-8"})
END = b""


def marker(**facts):
    return json.dumps({"foreman": facts}).encode() + b"\n"


def event(position, type_="job.queued"):
    told = {"position": position, "stream": JOB_ID, "version": 1, "type": type_, "at": "2026-01-02T03:04:05Z"}
    told |= {"data": {}, "hash": "00"}
    return b"id: %d\nevent: %b\ndata: %b\n\n" % (position, type_.encode(), json.dumps(told).encode())


def rest_of(body, number):
    """What a daemon sends to a follower that has so many lines."""
    return b"".join(line + b"\n" for line in body.split(b"\n")[:-1][number:])


@pytest.mark.parametrize("cut", range(0, len(BODY) + 1, 7))
def test_a_stream_cut_anywhere_brings_each_line_once(cut):
    played = Played()
    head, whole = BODY[:cut], BODY[:cut].count(b"\n")
    replies = [
        OPENED,
        *([head] if head else []),
        BROKEN,
        OPENED,
        *([rest] if (rest := rest_of(BODY, whole)) else []),
        END,
    ]
    played.run("stream", *replies, job_id=JOB_ID)
    assert [item.raw for item in played.items] == LINES
    assert [item.number for item in played.items] == [1, 2, 3, 4, 5]
    assert played.requests[1].params == {"run": 1, "offset": whole}


@pytest.mark.parametrize("size", [1, 2, 3, 64])
def test_lines_are_the_same_in_pieces_of_any_size(size):
    played = Played()
    body = b" " + BODY.replace(b"\n", b"\n \n")
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    played.run("stream", OPENED, *pieces, END, job_id=JOB_ID)
    assert "".join(item.text for item in played.items) == "w0 w1 w2 w3 "


def test_a_new_run_is_said_and_counted_anew():
    played = Played()
    told = rest_of(BODY, 0)
    again = marker(event="run", run=3, attempt=2) + told
    rest = rest_of(told, 2)
    played.run(
        "stream",
        OPENED,
        told[:60],
        BROKEN,
        OPENED,
        again[: again.index(b"w2")],
        BROKEN,
        OPENED,
        rest,
        END,
        job_id=JOB_ID,
    )
    start = played.items.index(NewRun(run=3, attempt=2))
    assert [item.raw for item in played.items[start + 1 :]] == LINES
    assert [(item.run, item.number) for item in played.items[start + 1 :]] == [(3, number) for number in range(1, 6)]
    assert played.requests[2].params == {"run": 3, "offset": 2}


def test_a_connection_that_breaks_after_the_last_line_is_asked_whether_it_was_the_last():
    played = Played()
    played.run("stream", OPENED, BODY, BROKEN, GONE, OPENED, END, job_id=JOB_ID)
    assert [item.raw for item in played.items] == LINES
    assert played.requests[-1].params == {"run": 1, "offset": 5}


def test_an_answer_that_was_not_on_disk_when_the_daemon_died_is_void():
    played = Played()
    again = marker(event="run", run=2, attempt=1) + BODY
    played.run("stream", OPENED, BODY, BROKEN, OPENED, again, END, job_id=JOB_ID)
    assert [type(item).__name__ for item in played.items] == [*["StreamLine"] * 5, "NewRun", *["StreamLine"] * 5]


def test_a_clean_end_in_the_middle_is_not_taken_for_the_end():
    played = Played()
    played.run(
        "stream", OPENED, rest_of(BODY, 0)[:60], END, ok(job("working")), OPENED, rest_of(BODY, 1), END, job_id=JOB_ID
    )
    assert [item.raw for item in played.items] == LINES


@pytest.mark.parametrize(
    ("last", "kind", "code"),
    [
        (marker(event="failed", error="no such layer", code="target_refused"), JobFailed, "target_refused"),
        (marker(event="failed", error=None, code=None), JobFailed, "job_failed"),
        (marker(event="cancelled", by="api"), JobCancelled, "cancelled"),
    ],
    ids=["failed", "failed without words", "cancelled"],
)
def test_a_job_that_ends_without_an_answer_raises_how(last, kind, code):
    played = Played()
    with pytest.raises(kind) as caught:
        played.run("stream", OPENED, FIRST + last, job_id=JOB_ID)
    assert (caught.value.code, caught.value.job_id) == (code, JOB_ID)


def test_a_job_that_expired_in_between_is_said_to_have():
    played = Played()
    with pytest.raises(JobExpired):
        played.run("stream", OPENED, BODY[:60], BROKEN, error(410, "job_expired"), job_id=JOB_ID)


def test_a_marker_of_a_newer_daemon_and_a_line_that_is_no_json_do_no_harm():
    played = Played()
    played.run("stream", OPENED, marker(event="mood", mood="good") + b"not json\n" + BODY, END, job_id=JOB_ID)
    assert played.items[0].line == b"not json"
    assert [item.raw for item in played.items] == [{}, *LINES]


def test_a_stream_gives_up_when_foreman_stays_away_but_not_while_lines_come():
    played = Played(Retry(within_s=3, first_s=1, most_s=1))
    lines = [b"{}\n", BROKEN, OPENED] * 10
    with pytest.raises(Unreachable):
        played.run("stream", OPENED, *lines, b"{}\n", BROKEN, *[GONE] * 10, job_id=JOB_ID)
    assert len(played.items) == 11
    assert len(played.pauses) == 10 + 3


def test_a_stream_that_breaks_within_the_same_line_each_time_is_given_up():
    played = Played(Retry(within_s=3, first_s=1, most_s=1))
    with pytest.raises(Unreachable):
        played.run("stream", *[OPENED, FIRST[:-5], BROKEN] * 4, job_id=JOB_ID)
    assert played.pauses == [1, 1, 1]


def test_a_silence_that_was_long_is_no_trouble_of_before():
    played = Played(Retry(within_s=3, first_s=1, most_s=1))

    def silence(played):
        played.now += 150
        return BROKEN

    played.run("stream", OPENED, *[silence, OPENED] * 10, BODY, END, job_id=JOB_ID)
    assert [item.raw for item in played.items] == LINES


def test_what_is_no_stream_is_not_read_as_one():
    played = Played()
    with pytest.raises(UnexpectedAnswer, match="content type"):
        played.run("stream", Answer(status=200, headers={"content-type": "text/html"}), job_id=JOB_ID)


def test_events_go_on_after_the_last_that_came_whole():
    played = Played()
    second = event(2)
    feed = played.operations().events(after=0)
    replies = [FEED, b"retry: 2000\nid: 0\n\n" + event(1) + second[: len(second) - 1], BROKEN]
    replies += [FEED, b": no event\nid: 1\n\n" + second + event(5), END, FEED, event(6)]
    with pytest.raises(Exhausted):
        played.play(feed, replies)
    assert [item.position for item in played.items] == [1, 2, 5, 6]
    assert [request.headers.get("last-event-id") for request in played.requests][:3] == ["0", "1", "5"]


def test_a_place_without_an_event_is_remembered():
    played = Played()
    with pytest.raises(Exhausted):
        played.run("events", FEED, b"id: 40\n\n", BROKEN, FEED, after=None, job="daemon", types=["a", "b"], model="m")
    assert [request.headers.get("last-event-id") for request in played.requests] == [None, "40"]
    assert played.requests[0].params == {"job": "daemon", "type": "a,b", "model": "m"}


def test_another_log_is_not_taken_for_the_one_that_was_followed():
    reset = b'id: 3\nevent: reset\ndata: {"reason":"unknown_position","head":3}\n\n'
    with pytest.raises(PositionUnknown, match="ends at 3, before position 9") as caught:
        Played().run("events", FEED, reset, after=9)
    assert caught.value.head == 3


def test_events_that_were_archived_are_not_passed_over_in_silence():
    reset = b'id: 90\nevent: reset\ndata: {"reason":"archived","head":99,"archive":"log-1-90.jsonl.gz"}\n\n'
    with pytest.raises(EventsArchived, match=r"log-1-90\.jsonl\.gz"):
        Played().run("events", FEED, reset, event(91), after=9)


def test_a_follower_cut_off_for_being_slow_goes_on_where_it_was():
    played = Played()
    slow = b'event: reset\ndata: {"reason":"slow","head":9}\n\n'
    with pytest.raises(Exhausted):
        played.run("events", FEED, event(1) + slow, END, FEED, event(2), after=0)
    assert [item.position for item in played.items] == [1, 2]
    assert played.requests[1].headers["last-event-id"] == "1"


def test_the_past_ends_at_the_end_of_the_log_even_if_its_pages_are_empty():
    played = Played()
    told = json.loads(event(7).split(b"data: ")[1])
    pages = [{"events": [], "next": 5, "head": 8}, {"events": [told], "next": 8, "head": 8}]
    played.run("events", *map(ok, pages), after=0, follow=False)
    assert [item.position for item in played.items] == [7]
    assert [request.params["after"] for request in played.requests] == [0, 5]


def test_the_past_without_a_beginning_is_all_that_is_kept():
    played = Played()
    played.run("events", ok({"events": [], "next": 90, "head": 90}), follow=False)
    assert "after" not in played.requests[0].params, "from 0 on there is nothing once a part was archived"


def test_a_line_in_many_pieces_costs_no_more_than_its_length():
    lines, piece = Lines(), b"x" * 1_000
    for _ in range(20_000):
        assert lines.feed(piece) == []
    assert sum(map(len, lines.feed(b"\n"))) == 20_000_000
