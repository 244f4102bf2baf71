"""`foreman jobs`: which jobs there are."""

from __future__ import annotations

import sys
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, islice
from typing import Any, Final, NoReturn, get_args

import click
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from foreman.cli import words
from foreman.cli.daemon import (
    asks_daemon,
    client,
    complete_model,
    json_option,
    print_array,
)
from foreman.cli.live import show_live
from foreman.client import Client, Job, JobState

STATES: Final = get_args(JobState)
LINES: Final = 20
#: Jobs whose columns are made to fit each other.
PART: Final = 1_000
#: What a list has beside ids and states, and how wide a terminal must be for each.
COLUMNS: Final = {"model": 50, "age": 50, "waited": 78, "ran": 78, "tokens": 78, "note": 110}
INDENT: Final = 2


@click.command()
@click.option("--state", "states", multiple=True, type=click.Choice(STATES), help="Only these; may be repeated.")
@click.option("--model", shell_complete=complete_model, help="Only jobs for this model.")
@click.option("--class", "job_class", type=click.Choice(["batch", "interactive"]), help="Only jobs of this class.")
@click.option("--source", type=click.Choice(["sync", "async"]), help="Only blocking calls, or only submitted jobs.")
@click.option("--limit", type=click.IntRange(1), default=LINES, show_default=True, help="How many, the newest first.")
@click.option("--all", "everything", is_flag=True, help="All of them, however many.")
@click.option("--watch", is_flag=True, help="Show them anew each second, until Ctrl-C.")
@click.option("-q", "--ids", is_flag=True, help="Only their ids, one a line.")
@json_option("One JSON array")
@asks_daemon
def jobs(*, url: str, limit: int, everything: bool, watch: bool, ids: bool, as_json: bool, **wanted: Any) -> None:
    """List jobs, the newest first.

    Example: foreman jobs --state failed --model llama3.2
    """
    if ids and (watch or as_json):
        raise click.UsageError("--ids prints ids and nothing else: no --watch, no --json")
    if watch and as_json:
        raise click.UsageError("--watch is for people; for scripts there is foreman events -f --json")
    wanted["state"] = wanted.pop("states") or None
    most = None if everything else limit
    with client(url) as asked:
        if watch:
            _watch(asked, wanted, limit)
        found = asked.list_jobs(**wanted, page=min(limit, 1_000) if most else 500)
        if as_json:
            print_array(job.raw for job in islice(found, most))
            return
        if ids:
            for job in islice(found, most):
                click.echo(job.job_id)
            return
        count = _print(islice(found, most), words.console())
    if count == most and sys.stdout.isatty():
        words.talk().print(f"[dim]the newest {most}; --all for all of them[/dim]")


def _print(found: Iterator[Job], out: Console) -> int:
    """Print the jobs as a table, a part at a time: there may be more than memory has room for. How many there were."""
    count = 0
    for part in iter(lambda: list(islice(found, PART)), []):
        out.print(listing(part, out.width, header=not count))
        count += len(part)
    if not count:
        out.print(listing((), out.width))
    return count


def _watch(asked: Client, wanted: dict[str, Any], limit: int) -> NoReturn:
    """The list as it changes, with as many jobs as there is room for."""
    out = words.console()

    def look() -> Group:
        room = max(1, out.height - 4)
        most = min(limit, room)
        shown = list(islice(asked.list_jobs(**wanted, page=min(most, 1_000)), most))
        return Group(listing(fitting(shown, out.width, room), out.width), Text("Ctrl-C ends", style="dim"))

    show_live(look, out, screen=False)


def listing(shown: Sequence[Job], width: int, *, header: bool = True) -> RenderableType:
    """Jobs as a table. A narrow terminal does without what is in `show`, too, and has a job's note below it."""
    if not shown:
        return Text("no jobs", style="dim")
    wide = width >= COLUMNS["note"]
    names = [name for name, least in COLUMNS.items() if width >= least]
    titles = {name: "wait" if name == "waited" and not wide else name for name in names}
    figures = [titles[name] for name in names if name not in {"model", "note"}]
    made = words.table("job", "state", *titles.values(), right=figures, flexible="note", short="model")
    made.show_header = header
    words.rows(made, (_line(job, names, words.span if wide else words.brief) for job in shown))
    return made if wide else _Noted(made, [note(job) for job in shown])


class _Noted:
    """A table with a line below some of its own."""

    def __init__(self, made: Table, notes: Sequence[str]) -> None:
        self._made = made
        self._notes = notes

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Its lines, of which each row has one."""
        lines = console.render_lines(self._made, options, pad=False)
        unnoted = len(lines) - len(self._notes)
        for line, said in zip(lines, [*[""] * unnoted, *self._notes], strict=True):
            yield from (*line, Segment.line())
            if said:
                text = Text(words.plain(said), style="dim", no_wrap=True, overflow="ellipsis")
                yield Padding(text, (0, 0, 0, INDENT), expand=False)


def fitting(shown: Sequence[Job], width: int, room: int) -> Sequence[Job]:
    """The first of these jobs, as many as there are lines for."""
    below = width < COLUMNS["note"]
    used = list(accumulate(1 + bool(below and note(job)) for job in shown))
    return shown[: max(1, bisect_right(used, room))]


def _line(job: Job, names: Sequence[str], span: Callable[[float | None], str]) -> Sequence[str | Text]:
    tokens = job.result.generated_tokens if job.result else None
    waited_until = job.started_at or (job.completed_at if job.finished else None)
    values = {
        "model": job.model,
        "age": span(words.between(job.created_at, None)),
        "waited": span(words.between(job.created_at, waited_until)),
        "ran": span(words.between(job.started_at, job.completed_at)),
        "tokens": "" if tokens is None else f"{tokens:,}",
        "note": note(job),
    }
    return (job.job_id, words.state(job.state), *(values[name] for name in names))


def note(job: Job) -> str:
    """What else is worth a word of a job in a list."""
    if job.error is not None and job.error.message and job.state != "cancelled":
        return job.error.message
    if job.place is not None:
        begins = words.span(job.place.eta_seconds)
        return f"{job.place.ahead:,} ahead" + (f", begins in {begins}" if begins else "")
    return job.last_attempt_error or ""
