"""What `foreman replay` shows of what it found. Finds nothing itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click

from foreman.cli import words
from foreman.clock import Micros, rfc3339, seconds_between
from foreman.commands.rebuild import Rebuilt
from foreman.events.types import JobClass
from foreman.fsm.job import RUNNING, State
from foreman.projections.job import Job
from foreman.replay.moment import Moment
from foreman.replay.policy import Figures, Waits
from foreman.replay.recording import Recording

#: Waiting jobs shown one by one; --json has all of them.
SHOWN: Final = 20
COUNTS: Final = ("interactive", "batch", "resting")
LONGEST_DIFFERENCE: Final = 400
#: A simulation further off than this says little of other rules.
AGREES: Final = 0.02
#: Of a wait, a difference that counts; less is lost in how waits are written.
NOTICED_S: Final = 0.1
MAKESPAN: Final = "makespan"


def show_made(path: Path, made: Rebuilt, difference: Any, *, verify: bool, log_only: bool) -> None:
    """A new database."""
    click.echo(f"{path}: {made.position:,} events, {made.jobs:,} jobs, {made.contents:,} artifacts")
    click.echo(f"position {made.position}, hash {made.hash.hex()}")
    if verify and difference is None:
        click.echo("equal: both databases have the same canonical dump")
    elif difference is not None:
        click.echo("NOT equal; the first lines that differ, in the original and here:", err=True)
        for line in difference:
            click.echo(f"  {'(nothing)' if line is None else words.plain(line)[:LONGEST_DIFFERENCE]}", err=True)
        click.echo("  the new one is what the log says; foreman audit tells what is wrong in the original", err=True)
    if made.missing:
        why = "artifacts are in no log" if log_only else "artifacts are missing in the original, too"
        click.echo(f"{made.missing:,} {why}", err=True)
    if made.refused:
        names = words.plain(", ".join(made.refused_names))
        click.echo(f"{made.refused:,} artifacts are not what the log says and were left out: {names}", err=True)


def as_json(found: Moment) -> dict[str, Any]:
    """A moment, with every job."""
    return {
        "position": found.position,
        "at": _time(found.at),
        "daemon_stopped_since": _time(found.stopped_since),
        "daemon_died_before": _time(found.died_before),
        "target_away_since": _time(found.target_away_since),
        "running": [_job(job) for job in _running(found)],
        "waiting": [_job(job) for jobs in found.waiting().values() for job in jobs],
        "finished": {state.value: found.finished[state] for state in (State.DONE, State.FAILED, State.CANCELLED)},
    }


def show_moment(found: Moment) -> None:
    """What ran and what waited."""
    console = words.console()
    if found.at is None:
        console.print("nothing had happened by then")
        return
    console.print(f"after event {found.position:,}, {_local(found.at)}")
    if found.stopped_since is not None:
        console.print(f"foreman had been stopped since {_local(found.stopped_since)}")
    if found.died_before is not None:
        console.print(
            f"foreman died at some moment after that and was started again at {_local(found.died_before)}: "
            "what ran was broken off"
        )
    if found.target_away_since is not None:
        console.print(f"the target had been away since {_local(found.target_away_since)}")
    running, lines = _running(found), list(found.waiting().values())
    jobs = [job for of_key in lines for job in of_key]
    done, failed, cancelled = (found.finished[state] for state in (State.DONE, State.FAILED, State.CANCELLED))
    console.print(
        f"{len(running):,} ran, {len(jobs):,} waited; "
        f"{done:,} were done, {failed:,} had failed, {cancelled:,} were cancelled"
    )
    if lines:
        table = words.table("model", *COUNTS, "oldest", right=COUNTS, flexible="model")
        console.print(words.rows(table, (_line(of_key, found.at) for of_key in lines)))
    if running or jobs:
        table = words.table("job", "state", "class", "model", "since", flexible="model")
        shown = [*running, *jobs[:SHOWN]]
        console.print(words.rows(table, (_row(job, found.at) for job in shown)))
    if len(jobs) > SHOWN:
        console.print(f"and {len(jobs) - SHOWN:,} more that waited; --json has all of them")


def _line(jobs: Sequence[Job], at: Micros) -> tuple[str, ...]:
    ready = [job for job in jobs if job.not_before is None or job.not_before <= at]
    interactive = sum(job.job_class is JobClass.INTERACTIVE for job in ready)
    oldest = min(jobs, key=lambda job: job.order)
    counts = (str(interactive), str(len(ready) - interactive), str(len(jobs) - len(ready)))
    return (oldest.model, *counts, words.span(seconds_between(oldest.created_at, at)))


def _row(job: Job, at: Micros) -> tuple[Any, ...]:
    since = words.span(seconds_between(job.created_at, at))
    return (job.job_id, words.state(job.state.value), job.job_class.value, job.model, since)


def _running(found: Moment) -> list[Job]:
    return sorted((job for job in found.jobs.values() if job.state in RUNNING), key=lambda job: job.order)


def _job(job: Job) -> dict[str, Any]:
    return {
        "job_id": job.job_id,
        "state": job.state.value,
        "model": job.model,
        "load_key": job.load_key,
        "class": job.job_class.value,
        "created_at": _time(job.created_at),
        "started_at": _time(job.started_at),
        "not_before": _time(job.not_before),
        "attempt": job.attempt,
    }


def _time(at: Micros | None) -> str | None:
    return None if at is None else rfc3339(at)


def _local(at: Micros) -> str:
    return f"{datetime.fromtimestamp(at / 1_000_000, UTC).astimezone():%Y-%m-%d %H:%M:%S %z}"


ROWS: Final[tuple[tuple[str, Callable[[Figures], str]], ...]] = (
    ("jobs done or failed", lambda one: f"{one.finished:,}"),
    ("swaps", lambda one: f"{one.swaps:,}"),
    (MAKESPAN, lambda one: words.span(one.makespan_s)),
    ("busy", lambda one: f"{one.busy_share:.0%}"),
    ("loading", lambda one: f"{one.loading_share:.0%}"),
    ("interactive wait, median", lambda one: words.span(one.interactive.median_s)),
    ("interactive wait, p95", lambda one: words.span(one.interactive.p95_s)),
    ("batch wait, median", lambda one: words.span(one.batch.median_s)),
    ("batch wait, p95", lambda one: words.span(one.batch.p95_s)),
    ("longest wait", lambda one: words.span(_longest(one.interactive, one.batch))),
)
#: Letters that they take, and that a figure takes at most.
LABEL: Final = max(len(what) for what, _ in ROWS)
WIDEST: Final = 8


def show_policies(recording: Recording, figures: Sequence[Figures], *, is_own: bool) -> None:
    """What was recorded, and the same work under other rules."""
    console = words.console()
    has_room = console.width >= LABEL + sum(2 + max(len(one.name), WIDEST) for one in figures)
    for columns in [figures] if has_room else [[one] for one in figures]:
        names = [one.name for one in columns]
        table = words.table("", *names, right=names)
        console.print(words.rows(table, [(what, *map(write, columns)) for what, write in ROWS]))
    real, ran = figures[0], figures[1]
    if is_own and real.makespan_s:
        what, was, is_now = furthest_off(real, ran)
        off = abs(is_now - was) / was if was else 1.0
        told = f"{words.span(is_now)} for {words.span(was)}" + (f", {off:.1%} off" if was else "")
        console.print(
            f"`ran` is furthest from what was recorded in `{what}`: {told}. Trust the other columns no further"
        )
        if off > AGREES and not recording.tells_rules:
            words.talk().print("`ran` goes by the settings of this shell: set FOREMAN_* as the daemon had them")


def furthest_off(real: Figures, ran: Figures) -> tuple[str, float, float]:
    """The figure in which the simulation differs most from what it simulates, in proportion, and its two values.

    A wait that differs by less than a person notices counts as the same, whatever part of it that is.
    """
    known = [
        (what, was, is_now if what == MAKESPAN or abs(is_now - was) >= NOTICED_S else was)
        for what, was, is_now in (
            (MAKESPAN, real.makespan_s, ran.makespan_s),
            ("interactive wait, median", real.interactive.median_s, ran.interactive.median_s),
            ("batch wait, median", real.batch.median_s, ran.batch.median_s),
        )
        if was is not None and is_now is not None
    ]
    return max(known, key=lambda one: abs(one[2] - one[1]) / max(one[1], NOTICED_S))


def _longest(*waits: Waits) -> float | None:
    return max((one.longest_s for one in waits if one.longest_s is not None), default=None)
