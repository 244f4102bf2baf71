"""`foreman show` and `foreman why`: all that there is to know of one job, or one sentence."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import click
import orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text

from foreman.cli import words
from foreman.cli.daemon import asks_daemon, client, job_argument, json_option, print_json, the_job
from foreman.client import Client, Delivery, Event, Job
from foreman.errors import ForemanError, JobExpired

EXPIRED: Final = "it is over, and its contents were removed by age; foreman show has its history"
#: The events that end a job, and what it was then.
ENDS: Final = {"job.done": "done", "job.failed": "failed", "job.cancelled": "cancelled"}
#: Of an answer, so many characters are shown without being asked for.
PREVIEW: Final = 600
#: Members of an event that say more to people than they take room.
TOLD: Final = ("attempt", "evicts", "swapped", "load_s", "waited_s", "reason", "error", "code", "status", "by",
               "generated_tokens", "run_s", "first_token_s")  # fmt: skip


@click.command()
@job_argument
@click.option("--answer", is_flag=True, help="Only the answer's text, all of it.")
@json_option("One JSON object with the job, its events and its deliveries")
@asks_daemon
def show(*, url: str, job_id: str | None, answer: bool, as_json: bool) -> None:
    """Show one job: how it stands, why it waits, what happened to it and when, its webhooks, its answer.

    Without JOB it is the newest.

    Example: foreman show 01JD1V6X8W4Q2T5N7R9S0KACEG
    """
    if answer and as_json:
        raise click.UsageError("--answer is text; the job's artifacts are in --json")
    with client(url) as asked:
        job_id = the_job(asked, job_id)
        if answer:
            words.write(f"{asked.completion(job_id, timeout=0).text}\n")
            return
        history = asked.job_events(job_id)
        try:
            job = asked.get(job_id)
        except JobExpired as error:
            _show_what_is_left(job_id, history, error, as_json=as_json)
            return
        sent = list(asked.deliveries(job_id)) if job.raw.get("webhook") else []
        if as_json:
            print_json(
                {
                    "job": job.raw,
                    "events": [event.raw for event in history],
                    "deliveries": [delivery.raw for delivery in sent],
                }
            )
            return
        out = words.console()
        out.print(_facts(_said(job)))
        out.print()
        out.print(_timeline(history))
        if sent:
            out.print()
            out.print(_deliveries(sent))
        if job.state == "done":
            _preview(asked, job, out)


def _show_what_is_left(job_id: str, history: Sequence[Event], error: JobExpired, *, as_json: bool) -> None:
    """Of a job whose contents have gone by age: what its history says of it."""
    left = _what_is_left(job_id, history)
    if as_json:
        print_json({"job": left, "events": [event.raw for event in history], "deliveries": []})
        return
    out = words.console()
    out.print(_facts(_said_of_expired(left, history)))
    out.print()
    out.print(_timeline(history))
    words.talk().print(words.plain(str(error)), style="dim", soft_wrap=True)


def _what_is_left(job_id: str, history: Sequence[Event]) -> dict[str, Any]:
    """An expired job's members, those that its history has, by the names that a job's own have."""
    first = history[0] if history else None
    accepted = first.data if first is not None and first.type == "job.queued" else {}
    over = _end(history)
    return {
        "job_id": job_id,
        "state": "expired",
        "model": accepted.get("model"),
        "endpoint": accepted.get("endpoint"),
        "class": accepted.get("job_class"),
        "source": accepted.get("source"),
        "max_attempts": accepted.get("max_attempts"),
        "created_at": first.raw["at"] if first is not None and accepted else None,
        "completed_at": None if over is None else over.raw["at"],
        "retry_of": accepted.get("retry_of"),
    }


def _end(history: Sequence[Event]) -> Event | None:
    """With what the job was over."""
    return next((event for event in reversed(history) if event.type in ENDS), None)


def _said_of_expired(left: Mapping[str, Any], history: Sequence[Event]) -> Iterator[tuple[str, str | Text]]:
    yield "job", left["job_id"]
    yield "state", words.state(left["state"])
    over = _end(history)
    if over is not None:
        yield "because", f"it was {ENDS[over.type]} {words.ago(over.at)} ago, and its contents were removed by age"
    if left["model"] is not None:
        yield "model", left["model"]
        yield "kind", _kind(left["endpoint"], left["class"], left["source"])
    if left["retry_of"]:
        yield "retry of", left["retry_of"]


def _kind(endpoint: str, job_class: str, source: str) -> str:
    return f"{endpoint}, {job_class}, " + ("a blocking call" if source == "sync" else "submitted")


def _facts(lines: Iterable[tuple[str, str | Text]]) -> Table:
    made = Table.grid(padding=(0, 2))
    made.add_column(style="dim", no_wrap=True)
    made.add_column(overflow="fold")
    for name, value in lines:
        made.add_row(name, value if isinstance(value, Text) else Text(words.plain(value)))
    return made


def _said(job: Job) -> Iterator[tuple[str, str | Text]]:
    yield "job", job.job_id
    yield "state", words.state(job.state)
    yield "because", sentence(job)
    yield "model", job.model
    yield "kind", _kind(job.endpoint, job.job_class, job.source)
    yield "attempts", f"{job.attempt} of {job.max_attempts}"
    if job.retry_of:
        yield "retry of", job.retry_of
    if job.raw.get("webhook"):
        yield "webhook", str(job.raw["webhook"].get("url"))
    if job.last_attempt_error:
        yield "last fault", job.last_attempt_error
    if job.result is not None:
        yield "tokens", f"{job.result.prompt_tokens or 0:,} read, {job.result.generated_tokens or 0:,} written"


def _timeline(history: Sequence[Event]) -> Table:
    made = words.table("when", "after", "event", "what", right=("after",), flexible="what")
    before = None
    lines: list[Sequence[str | Text]] = []
    for event in history:
        after = "" if before is None else f"+{words.span((event.at - before).total_seconds())}"
        said = ", ".join(f"{name} {_value(event.data[name])}" for name in TOLD if event.data.get(name) is not None)
        lines.append((words.clock(event.at), after, event.type, said))
        before = event.at
    return words.rows(made, lines)


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.2f}"
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _deliveries(sent: Sequence[Delivery]) -> Table:
    made = words.table("tells", "webhook", "attempts", "receiver", "last answer", flexible="last answer")
    return words.rows(
        made,
        ((item.tells or "", item.state, f"{item.attempt_count}", item.receiver, _last(item)) for item in sent),
    )


def _last(item: Delivery) -> str:
    if not item.attempts:
        return ""
    last = item.attempts[-1]
    return f"HTTP {last.status}" if last.status and not last.error else last.error or ""


def _preview(asked: Client, job: Job, out: Console) -> None:
    try:
        text = words.printable(asked.completion(job.job_id, timeout=0).text)
    except ForemanError:
        return  # gone since: its skeleton was shown
    out.print()
    out.print(Text(text[:PREVIEW]), soft_wrap=True)
    if len(text) > PREVIEW:
        out.print(f"[dim]… {len(text):,} characters in all: foreman show --answer {job.job_id}[/dim]")


@click.command()
@job_argument
@json_option("One JSON object")
@asks_daemon
def why(*, url: str, job_id: str | None, as_json: bool) -> None:
    """Say in one sentence why a job, or else the newest, waits, or how else it stands.

    Example: foreman why 01JD1V6X8W4Q2T5N7R9S0KACEG
    """
    with client(url) as asked:
        job_id = the_job(asked, job_id)
        try:
            job = asked.get(job_id)
        except JobExpired:
            if as_json:
                print_json({"job_id": job_id, "state": "expired", "why": EXPIRED, "queue": None})
            else:
                click.echo(EXPIRED)
            return
    if as_json:
        told = sentence(job, in_utc=True)
        print_json({"job_id": job.job_id, "state": job.state, "why": told, "queue": job.raw.get("queue")})
        return
    click.echo(words.plain(sentence(job)))


def sentence(job: Job, *, in_utc: bool = False) -> str:
    """How a job stands and why; with times as this machine's clock shows them, or else as the daemon wrote them."""
    if job.place is not None:
        begins = words.eta(job.place.eta_low_seconds, job.place.eta_seconds, job.place.eta_high_seconds)
        reason = job.place.reason if in_utc else words.local(job.place.reason)
        return reason + (f"; begins in {begins}" if begins else "")
    begun, ended = words.ago(job.started_at or job.updated_at), words.ago(job.completed_at)
    error = job.error.message if job.error and job.error.message else "it failed"
    match job.state:
        case "queued":
            return "it waits; where in the queue is not known yet"
        case "loading":
            return f"its model has been loading for {words.ago(job.updated_at)}"
        case "working":
            return f"it has been working for {begun}, attempt {job.attempt} of {job.max_attempts}"
        case "done":
            return f"it was done {ended} ago"
        case "failed":
            return f"it failed {ended} ago: {error}"
        case "cancelled":
            return f"it was cancelled {ended} ago, by {job.error.by if job.error and job.error.by else 'somebody'}"
    return EXPIRED
