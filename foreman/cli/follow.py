"""`foreman logs` and `foreman events`: one answer as it comes, and the log as it grows."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import click
import orjson
from rich.console import Console
from rich.text import Text

from foreman.cli import words
from foreman.cli.away import AWAY, told_when_away
from foreman.cli.daemon import (
    AT_ONCE,
    FAILED,
    PATIENT,
    asks_daemon,
    client,
    complete_job,
    complete_model,
    job_argument,
    json_option,
    print_json,
    the_job,
)
from foreman.client import Client, Event, EventsArchived, NewRun

LATEST: Final = 20
#: How far back the last events are looked for, if there are not enough in less.
REACHES: Final = (LATEST, 1_000, 50_000)
#: Of one event's members a line shows those that are small and differ; all are in --json.
LEFT_OUT: Final = frozenset({
    "load_key", "request", "artifacts", "idempotency", "webhook", "stream", "max_attempts", "job_class",
    "total_duration", "load_duration", "prompt_eval_duration", "eval_duration",
})  # fmt: skip
LONGEST_VALUE: Final = 60
JOB_WIDTH: Final = 26
#: As far as a position reaches, for what does not fit its line.
INDENT: Final = 10


@click.command()
@job_argument
@click.option("-f", "--follow", is_flag=True, help="Wait for what is still to come, to the answer's end.")
@click.option("--thinking", is_flag=True, help="Show what the model thinks, too.")
@json_option("The lines as Ollama sent them")
@asks_daemon
def logs(*, url: str, job_id: str | None, follow: bool, thinking: bool, as_json: bool) -> None:
    """Print the answer of a job, or else of the newest; with -f live, token by token, also across restarts of foreman.

    Example: foreman logs -f 01JD1V6X8W4Q2T5N7R9S0KACEG
    """
    with client(url) as asked:  # only a foreman that was there once is waited for
        job_id = the_job(asked, job_id)
        job = asked.get(job_id)
    if not follow and not job.finished:
        words.talk().print(f"the job is {job.state}; foreman logs -f {job_id} follows it", style="dim", soft_wrap=True)
        sys.exit(FAILED)
    with client(url, PATIENT if follow else AT_ONCE) as following:
        print_answer(following, job_id, thinking=thinking, as_json=as_json)


def print_answer(asked: Client, job_id: str, *, thinking: bool = False, as_json: bool = False) -> None:
    """Write an answer as it comes, to its end. Raises JobFailed or JobCancelled if it has none."""
    if as_json:
        with _told_of_absence():
            _print_lines(asked, job_id)
        return
    told, last = words.talk(), "\n"
    try:
        with _told_of_absence(lambda: last == "\n"):
            for item in asked.stream(job_id):
                if not isinstance(item, NewRun):
                    text = item.thinking + item.text if thinking else item.text
                    words.write(text)
                    last = text[-1:] or last
                elif item.run > 1:
                    words.write("" if last == "\n" else "\n")
                    told.print(f"started anew, attempt {item.attempt}: what came before is void", style="yellow")
                    last = "\n"
    finally:  # also of what breaks off: the next words begin a line
        words.write("" if last == "\n" else "\n")


@contextmanager
def _told_of_absence(at_line_start: Callable[[], bool] = lambda: True) -> Iterator[None]:
    """Say at a terminal when foreman is away, on a line of its own."""
    told = words.talk()

    def tell() -> None:
        if told.is_terminal:
            # To stderr, also the line's end: the answer itself goes on where it broke off.
            told.print("" if at_line_start() else "\n", AWAY, sep="", style="dim", markup=False, soft_wrap=True)

    with told_when_away(tell):
        yield


def _print_lines(asked: Client, job_id: str) -> None:
    for item in asked.stream(job_id):
        if isinstance(item, NewRun):
            print_json({"foreman": {"event": "run", "run": item.run, "attempt": item.attempt}})
        else:
            click.echo(item.line)


@click.command()
@click.option("-f", "--follow", is_flag=True, help="Go on with what happens, until Ctrl-C.")
@click.option("--after", type=click.IntRange(0), help="Begin after this position of the log; 0 is its beginning.")
@click.option("--job", shell_complete=complete_job, help="Only of this job; 'daemon' for foreman's own.")
@click.option("--type", "types", multiple=True, help="Only events of this type; may be repeated.")
@click.option("--model", shell_complete=complete_model, help="Only of jobs for this model.")
@json_option("One JSON object a line")
@asks_daemon
def events(*, url: str, follow: bool, after: int | None, as_json: bool, types: tuple[str, ...], **only: Any) -> None:
    """Print what has happened: the last events, or all after a position. With -f also what happens from now on.

    The last events of a type or a model are looked for among the last 50,000 of all.

    Example: foreman events -f --type job.done --type job.failed
    """
    out = words.console()
    wanted = {"types": list(types) or None, **only}
    if after is None:
        with client(url) as asked:
            head = asked.health().log_position
            latest = _latest(asked, head, wanted)
        _print(latest, out, as_json=as_json)
        if not follow:
            return
        after = max(head, latest[-1].position if latest else 0)
    elif follow:
        with client(url) as asked:  # only a foreman that was there once is waited for
            asked.health()
    with client(url, PATIENT if follow else AT_ONCE) as asked, _told_of_absence():
        _print(asked.events(after=after, follow=follow, **wanted), out, as_json=as_json)


def _latest(asked: Client, head: int, wanted: dict[str, Any]) -> Sequence[Event]:
    """The last events that fit: of one job all that is kept, else those in growing parts of the log's end."""
    if wanted["job"]:
        return deque(asked.events(follow=False, **wanted), LATEST)
    found: deque[Event] = deque()
    for back in REACHES:
        try:
            found = deque(asked.events(after=max(0, head - back), follow=False, **wanted), LATEST)
        except EventsArchived:  # less than that is left
            return deque(asked.events(follow=False, **wanted), LATEST)
        if len(found) == LATEST or back >= head:
            break
    return found


def _print(found: Iterable[Event], out: Console, *, as_json: bool) -> None:
    for event in found:
        if as_json:
            print_json(event.raw)
        else:
            out.print(_wrapped(_line(event), out))


def _line(event: Event) -> Text:
    line = Text(f"{event.position:>8}  ", style="dim")
    line.append(f"{words.clock(event.at)}  ", style="")
    line.append(f"{words.plain(event.stream):<{JOB_WIDTH}}  ", style="dim")
    line.append(f"{event.type:<16}", style=words.COLOURS.get(_state_of(event.type), "bold"))
    for name, value in event.data.items():
        if name not in LEFT_OUT and value is not None:
            line.append(f"  {name}=", style="dim")
            line.append(_value(value))
    return line


def _wrapped(line: Text, out: Console) -> Text:
    """A line that is too long for its terminal, the rest of it indented."""
    if len(line) <= out.width:
        return line
    return Text(f"\n{'':{INDENT}}").join(line.wrap(out, max(JOB_WIDTH, out.width - INDENT)))


def _state_of(type_: str) -> str:
    return {"job.requeued": "queued"}.get(type_, type_.partition(".")[2])


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    text = words.plain(text)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}…"
