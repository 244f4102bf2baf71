"""`GET /queue`: what runs, what waits in the order it will run, why, and for how long. Also a job's own place in it."""

from __future__ import annotations

from itertools import islice
from typing import Any, Final

from sanic import HTTPResponse, Request

from foreman.api import reasons
from foreman.api.desk import Desk, desk_of
from foreman.api.query import QueueQuery, read_query
from foreman.api.render import json_response
from foreman.clock import Micros, seconds_between
from foreman.events.types import JobClass
from foreman.projections.documents import time
from foreman.projections.job import Job
from foreman.projections.queue import Waiting
from foreman.scheduling.outlook import Begun
from foreman.scheduling.rehearsal import MOST_KEYS, MOST_RESTING
from foreman.scheduling.timetable import Forecast, Span

#: Of a span whose end nobody knows.
NO_SPAN: Final[dict[str, float | None]] = {"eta_seconds": None, "eta_low_seconds": None, "eta_high_seconds": None}


async def queue(request: Request) -> HTTPResponse:
    """`GET /queue`: what runs, and what waits by model in the order it will run, each with its reason and ETA."""
    desk = desk_of(request)
    limit = read_query(QueueQuery, request).limit
    jobs = [job for job_id in list(desk.ledger.work.running) if (job := await desk.ledger.job(job_id)) is not None]
    # From here on nothing can happen in between: all of it is of one moment.
    made = desk.outlook.now(fresh=True)
    waiting = _lines(desk, made, limit)
    work, begun_of = desk.ledger.work, desk.outlook.begun.get
    return json_response(
        {
            "mode": _mode(desk, made),
            "running": [_running(desk, made, job, begun) for job in jobs if (begun := begun_of(job.job_id))],
            "waiting": waiting,
            "count": len(work.queue),
            "other_load_keys": len(work.queue.load_keys) - len(waiting),
            "log_position": desk.ledger.feed.position,
        }
    )


def place_of(desk: Desk, job_id: str) -> dict[str, Any] | None:
    """A waiting job's place in the queue, its ETA and why it waits; None if it does not wait."""
    work, outlook = desk.ledger.work, desk.outlook
    made = outlook.now()
    job, place, eta = work.queue.get(job_id), work.queue.place(job_id, outlook.serving), outlook.eta(made, job_id)
    if job is None or place is None or eta is None:
        return None
    return {
        "position": place.position,
        "ahead": place.ahead,
        **_seconds(desk, eta.start),
        "extrapolated": not eta.exact,
        "reason": reasons.of_job(desk, job, place, eta, made),
    }


def _seconds(desk: Desk, span: Span | None) -> dict[str, float | None]:
    if span is None or reasons.outage(desk) is not None:
        return NO_SPAN
    shown = (span.expected_s, span.low_s, span.high_s)
    return dict(zip(NO_SPAN, (round(seconds, 1) for seconds in shown), strict=True))


def _mode(desk: Desk, made: Forecast) -> dict[str, Any]:
    """Whose turn it is, since when and until when, and why."""
    first, until = made.turns[0] if made.turns else None, None
    if len(made.turns) > 1 and reasons.outage(desk) is None:
        until = Micros(made.at + round(made.turns[0].ends_s * 1_000_000))
    serving = first.load_key if first is not None and first.load_key == made.serving else None
    return {
        "load_key": serving,
        "model": None if serving is None else reasons.name_of(desk, serving),
        "since": None if serving is None else time(desk.outlook.turn().since),
        "until": None if serving is None else time(until),
        "reason": reasons.of_mode(desk, made),
    }


def _running(desk: Desk, made: Forecast, job: Job, begun: Begun) -> dict[str, Any]:
    """A job that loads or works, as far as it has got."""
    elapsed_s = seconds_between(begun.at, desk.clock.now())
    tokens = desk.outlook.tokens(job.job_id)
    return {
        "job_id": job.job_id,
        "model": job.model,
        "load_key": job.load_key,
        "class": job.job_class,
        "endpoint": job.endpoint,
        "phase": "loading" if begun.loading else "working",
        "attempt": begun.attempt,
        "since": time(begun.at),
        "elapsed_seconds": round(elapsed_s, 3),
        "tokens": tokens,
        "tokens_per_second": round(tokens / elapsed_s, 2) if tokens and elapsed_s else None,
        **_seconds(desk, desk.outlook.end(made, job.job_id)),
    }


def _lines(desk: Desk, made: Forecast, limit: int) -> list[dict[str, Any]]:
    """Who waits, by load key; the key whose next job starts first comes first, and so within each."""
    queue = desk.ledger.work.queue
    resting: dict[str, list[Waiting]] = {}
    for job in islice(queue.resting(), MOST_RESTING):
        resting.setdefault(job.load_key, []).append(job)
    heads = (head.load_key for job_class in JobClass for head in islice(queue.heads(job_class), MOST_KEYS))
    lines: list[tuple[float, dict[str, Any]]] = []
    for load_key in dict.fromkeys([*heads, *resting]):
        jobs = [job for job_class in JobClass for job in islice(queue.ready(load_key, job_class), max(1, limit))]
        jobs += resting.get(load_key, [])
        starts = sorted((_start(desk, made, job), job.order, job) for job in jobs)
        line = {
            "load_key": load_key,
            "model": reasons.name_of(desk, load_key),
            "count": queue.count(load_key) + queue.count_resting(load_key),
            "resting": queue.count_resting(load_key),
            "jobs": [_waiting(desk, job) for _, _, job in starts[:limit]],
        }
        lines.append((starts[0][0], line))
    return [line for _, line in sorted(lines, key=lambda line: line[0])]


def _start(desk: Desk, made: Forecast, job: Waiting) -> float:
    eta = made.of(desk.ledger.work.queue, job.job_id)
    assert eta is not None
    return eta.start.expected_s


def _waiting(desk: Desk, job: Waiting) -> dict[str, Any]:
    return {
        "job_id": job.job_id,
        "class": job.job_class,
        "created_at": time(job.queued_at),
        "not_before": time(job.not_before),
        **(place_of(desk, job.job_id) or {}),
    }
