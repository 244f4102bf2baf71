"""`foreman jobs`, `cancel` and `retry`: which jobs there are, and what to do with them."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Final, NoReturn, get_args

import click
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from foreman.cli import words
from foreman.cli.daemon import (
    FAILED,
    asks_daemon,
    client,
    complete_job,
    complete_model,
    json_option,
    print_array,
    print_json,
)
from foreman.cli.live import show_live
from foreman.client import Client, Job, JobState
from foreman.errors import ForemanError, JobNotFound

STATES: Final = get_args(JobState)
LINES: Final = 20
#: Jobs whose columns are made to fit each other.
PART: Final = 1_000
#: What a list has of figures, and how wide a terminal must be for each.
FIGURES: Final = {"age": 0, "waited": 90, "ran": 90, "tokens": 100}


@click.command()
@click.option("--state", "states", multiple=True, type=click.Choice(STATES), help="Only these; may be repeated.")
@click.option("--model", shell_complete=complete_model, help="Only jobs for this model.")
@click.option("--class", "job_class", type=click.Choice(["batch", "interactive"]), help="Only jobs of this class.")
@click.option("--source", type=click.Choice(["sync", "async"]), help="Only blocking calls, or only submitted jobs.")
@click.option("--limit", type=click.IntRange(1), default=LINES, show_default=True, help="How many, the newest first.")
@click.option("--all", "everything", is_flag=True, help="All of them, however many.")
@click.option("--watch", is_flag=True, help="Show them anew each second, until Ctrl-C.")
@json_option("One JSON array")
@asks_daemon
def jobs(*, url: str, limit: int, everything: bool, watch: bool, as_json: bool, **wanted: Any) -> None:
    """List jobs, the newest first.

    Example: foreman jobs --state failed --model llama3.2
    """
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
        most = min(limit, max(1, out.height - 4))
        shown = list(islice(asked.list_jobs(**wanted, page=min(most, 1_000)), most))
        return Group(listing(shown, out.width), Text("Ctrl-C ends", style="dim"))

    show_live(look, out, screen=False)


def listing(shown: Sequence[Job], width: int, *, header: bool = True) -> Table | Text:
    """Jobs as a table. A narrow terminal does without the figures that are in `show`, too."""
    if not shown:
        return Text("no jobs", style="dim")
    figures = [name for name, least in FIGURES.items() if width >= least]
    made = words.table("job", "state", "model", *figures, "note", right=figures, flexible="note")
    made.show_header = header
    return words.rows(made, (_line(job, figures) for job in shown))


def _line(job: Job, figures: Sequence[str]) -> Sequence[str | Text]:
    tokens = job.result.generated_tokens if job.result else None
    values = {
        "age": words.ago(job.created_at),
        "waited": words.span(
            words.between(job.created_at, job.started_at or (job.completed_at if job.finished else None))
        ),
        "ran": words.span(words.between(job.started_at, job.completed_at)),
        "tokens": "" if tokens is None else f"{tokens:,}",
    }
    return (job.job_id, words.state(job.state), job.model, *(values[name] for name in figures), note(job))


def note(job: Job) -> str:
    """What else is worth a word of a job in a list."""
    if job.error is not None and job.error.message and job.state != "cancelled":
        return job.error.message
    if job.place is not None:
        begins = words.span(job.place.eta_seconds)
        return f"{job.place.ahead:,} ahead" + (f", begins in {begins}" if begins else "")
    return job.last_attempt_error or ""


@click.command()
@click.argument("job_ids", nargs=-1, required=True, metavar="JOB...", shell_complete=complete_job)
@json_option("One JSON array of the jobs as they are then")
@asks_daemon
def cancel(*, url: str, job_ids: tuple[str, ...], as_json: bool) -> None:
    """Give jobs up. One that is over stays as it is.

    Example: foreman cancel 01JD1V6X8W4Q2T5N7R9S0KACEG
    """
    _each(url, job_ids, Client.cancel, as_json=as_json, say=_cancelled)


def _cancelled(job_id: str, job: Job) -> str:
    return f"{job_id} cancelled" if job.state == "cancelled" else f"{job_id} was over already: {job.state}"


@click.command()
@click.argument("job_ids", nargs=-1, required=True, metavar="JOB...", shell_complete=complete_job)
@json_option("One JSON array of the new jobs")
@asks_daemon
def retry(*, url: str, job_ids: tuple[str, ...], as_json: bool) -> None:
    """Make a new job of each of these, which must be over, with the same request. Prints the new ids.

    Example: foreman retry 01JD1V6X8W4Q2T5N7R9S0KACEG
    """
    _each(url, job_ids, Client.retry, as_json=as_json, say=lambda job_id, job: job.job_id)


def _each(url: str, job_ids: Sequence[str], do: Any, *, as_json: bool, say: Any) -> None:
    """Do it to each job, also after one that is unknown; what failed decides the exit status."""
    done: list[Job] = []
    failed = False
    with client(url) as asked:
        for job_id in job_ids:
            try:
                job = do(asked, job_id)
            except ForemanError as error:
                if len(job_ids) == 1 or not _is_about_the_job(error):
                    raise
                words.talk().print(f"foreman: {words.plain(f'{job_id}: {error}')}", markup=False, soft_wrap=True)
                failed = True
                continue
            done.append(job)
            if not as_json:
                click.echo(say(job_id, job))
    if as_json:
        print_json([job.raw for job in done])
    if failed:
        sys.exit(FAILED)


def _is_about_the_job(error: ForemanError) -> bool:
    """Whether the next job may fare better."""
    return isinstance(error, JobNotFound) or error.code in {"job_expired", "illegal_transition"}
