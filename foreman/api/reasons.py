"""Why a job waits and what the target does, in a sentence each. Words only; the forecast gives the facts."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from foreman.api.desk import Desk
from foreman.clock import Micros, seconds_between
from foreman.projections.queue import Place, Waiting
from foreman.scheduling.timetable import Eta, Forecast, PlannedTurn
from foreman.target.names import identity_of

A_DAY_S: Final = 86_400
#: Enough of a digest to tell models apart that have lost their names.
SHORT: Final = 19


def name_of(desk: Desk, load_key: str) -> str:
    """A load key as people know it: the model, and the options that make it another load."""
    identity = identity_of(load_key)
    model = desk.inventory.name_of(identity) or identity[:SHORT]
    options = load_key[len(identity) :].strip()
    model = model.removesuffix(":latest")
    return f"{model} ({options})" if options else model


def clock_time(at: Micros, now: Micros) -> str:
    """`14:02:10 UTC`, with its date if that is not within a day."""
    form = "%H:%M:%S UTC" if seconds_between(now, at) < A_DAY_S else "%Y-%m-%d %H:%M:%S UTC"
    return datetime.fromtimestamp(at // 1_000_000, UTC).strftime(form)


def ordinal(number: int) -> str:
    """1st, 2nd, 3rd, 4th …"""
    ending = "th" if number % 100 in {11, 12, 13} else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number:,}{ending}"


def outage(desk: Desk) -> str | None:
    """What keeps everybody waiting; None if nothing does."""
    health = desk.inventory.health
    if desk.draining:
        return "foreman is shutting down"
    if health.stalled_since is not None:
        return "the Ollama server takes calls and does not answer them"
    return None if health.up else "the Ollama server is not reachable"


def of_job(desk: Desk, job: Waiting, place: Place, eta: Eta, made: Forecast) -> str:
    """Why this job waits."""
    now = desk.clock.now()
    if (general := outage(desk)) is not None:
        return general
    if job.not_before is not None:
        return f"waits for its retry at {clock_time(job.not_before, now)}"
    count = desk.ledger.work.queue.count(job.load_key)
    rank = f"{ordinal(place.ahead_of_key + 1)} of {count:,} for {name_of(desk, job.load_key)}"
    if eta.turn is None:
        return f"{rank}, behind {place.ahead:,} jobs of all models"
    turn = made.turns[eta.turn]
    before = made.turns[eta.turn - 1] if eta.turn else None
    if before is None:
        return f"{rank}, whose turn it is" if job.load_key == made.serving else f"{rank}, which is loaded next"
    if turn.begins_s <= 0:
        return f"{rank}, which is loaded next"
    return f"{rank}, after {name_of(desk, before.load_key)}, whose turn ends by {clock_time(_end(before, made), now)}"


def of_mode(desk: Desk, made: Forecast) -> str:
    """What the target does now, and what comes next."""
    if (general := outage(desk)) is not None:
        return general
    work = desk.ledger.work
    if not made.turns:
        return "nothing runs and nothing waits" if not len(work.queue) else "jobs wait for their retries"
    first, following = made.turns[0], made.turns[1] if len(made.turns) > 1 else None
    name = name_of(desk, first.load_key)
    if following is None:
        busy = len(work.queue) or work.running
        return f"{name} keeps the target: nobody waits for another model" if busy else f"{name} is loaded and idle"
    comes = name_of(desk, following.load_key)
    if following.begins_s <= 0:
        return f"{comes} is loaded next"
    if first.drained:
        return f"{name} keeps the target until nobody waits for it, then {comes} is loaded"
    return f"{name} has the target for its turn, since jobs for {comes} have waited too long; then that is loaded"


def _end(turn: PlannedTurn, made: Forecast) -> Micros:
    return Micros(made.at + round(turn.ends_s * 1_000_000))
