"""`foreman cancel` and `foreman retry`: what to do with jobs, those that are named or all that fit."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import click

from foreman.cli import words
from foreman.cli.daemon import (
    FAILED,
    INTERRUPTED,
    asks_daemon,
    client,
    complete_job,
    complete_model,
    json_option,
    print_array,
)
from foreman.client import Client, Job, JobState
from foreman.errors import ForemanError, JobNotFound, RequestInvalid

WAITING: Final[Sequence[JobState]] = ("queued",)
NOT_OVER: Final[Sequence[JobState]] = ("queued", "loading", "working")
#: Jobs that nothing was done to: over before, or made anew by an earlier call.
UNTOUCHED: Final = frozenset({"done", "failed", "expired"})
#: Of one answer when all that fit are looked for.
PAGE: Final = 1_000
SEE_JOBS: Final = "foreman jobs lists them"

jobs_argument = click.argument("job_ids", nargs=-1, metavar="[JOB]...", shell_complete=complete_job)
yes_option = click.option("-y", "--yes", is_flag=True, help="Do not ask before it is done to all that fit.")


@click.command()
@jobs_argument
@click.option("--waiting", is_flag=True, help="All jobs that wait, blocking calls too.")
@click.option("--model", shell_complete=complete_model, help="All for this model that are not over, or that wait.")
@yes_option
@json_option("One JSON array of the jobs as they are then")
@asks_daemon
def cancel(*, url: str, job_ids: Sequence[str], waiting: bool, model: str | None, yes: bool, as_json: bool) -> None:
    """Give jobs up: those that are named, or all that fit. One that is over stays as it is.

    \b
    Example: foreman cancel 01JD1V6X8W4Q2T5N7R9S0KACEG
             foreman cancel --waiting --model llama3.2
    """
    chosen = waiting or model is not None
    _check(job_ids, chosen=chosen, how="--waiting or --model")
    with client(url) as asked:
        if chosen:  # the newest first: else those behind would begin meanwhile
            job_ids = _all(asked, WAITING if waiting else NOT_OVER, model)
            _confirm("cancel", job_ids, yes=yes)
        _each(asked, job_ids, Client.cancel, as_json=as_json, say=_cancelled, count="cancelled" if chosen else "")


def _cancelled(job_id: str, job: Job) -> str:
    return f"{job_id} cancelled" if job.state == "cancelled" else f"{job_id} was over already: {job.state}"


@click.command()
@jobs_argument
@click.option("--failed", is_flag=True, help="All jobs that failed; repeated, it makes none a second time.")
@click.option("--model", shell_complete=complete_model, help="With --failed: only those for this model.")
@yes_option
@json_option("One JSON array of the new jobs")
@asks_daemon
def retry(*, url: str, job_ids: Sequence[str], failed: bool, model: str | None, yes: bool, as_json: bool) -> None:
    """Make a new job of each of these, which must be over, with the same request. Prints the new ids.

    \b
    Example: foreman retry 01JD1V6X8W4Q2T5N7R9S0KACEG
             foreman retry --failed --model llama3.2
    """
    if model is not None and not failed:
        raise click.UsageError("--model goes with --failed")
    _check(job_ids, chosen=failed, how="--failed")
    with client(url) as asked:
        if failed:  # the oldest first, as they were submitted
            job_ids = _all(asked, ("failed",), model)[::-1]
            _confirm("retry", job_ids, yes=yes)
        do = _retry_once if failed else Client.retry
        _each(asked, job_ids, do, as_json=as_json, say=_new_id, count="retried" if failed else "")


def _retry_once(asked: Client, job_id: str) -> Job:
    """The new job, or the one that an earlier call made: what broke off in the middle can be repeated."""
    return asked.retry(job_id, idempotency_key=f"retry-failed-{job_id}")


def _new_id(job_id: str, job: Job) -> str:
    return job.job_id


def _check(job_ids: Sequence[str], *, chosen: bool, how: str) -> None:
    if bool(job_ids) == chosen:
        raise click.UsageError(f"give either ids of jobs or {how}")


def _all(asked: Client, states: Sequence[JobState], model: str | None) -> list[str]:
    """The jobs that fit, the newest first; found before any is changed, for that moves them out of their list."""
    return [job.job_id for job in asked.list_jobs(state=states, model=model, page=PAGE)]


def _confirm(what: str, job_ids: Sequence[str], *, yes: bool) -> None:
    """Ask whoever sits at the terminal; ends the command unless they agree."""
    if yes or not job_ids or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return
    try:
        agreed = click.confirm(f"{what} {_jobs(len(job_ids))}?", err=True)
    except click.Abort:
        sys.exit(INTERRUPTED)
    if not agreed:
        sys.exit(FAILED)


def _jobs(count: int) -> str:
    return f"{count:,} job{'' if count == 1 else 's'}"


def _each(
    asked: Client,
    job_ids: Sequence[str],
    do: Callable[[Client, str], Job],
    *,
    as_json: bool,
    say: Callable[[str, Job], str],
    count: str,
) -> None:
    """Do it to each job, also after one for which it cannot be done: that decides the exit status."""
    failed: list[str] = []
    done = 0

    def counted() -> Iterator[tuple[str, Job]]:
        nonlocal done
        for job_id, job in _done(asked, job_ids, do, failed):
            done += job.state not in UNTOUCHED
            yield job_id, job

    try:
        if as_json:
            print_array(job.raw for _, job in counted())
        else:
            for job_id, job in counted():
                click.echo(say(job_id, job))
    finally:  # also of what broke off
        if count and not as_json:
            words.talk().print(f"{_jobs(done)} {count}", style="dim", soft_wrap=True)
    if failed:
        words.talk().print(f"  {SEE_JOBS}", markup=False, soft_wrap=True)
        sys.exit(FAILED)


def _done(
    asked: Client, job_ids: Sequence[str], do: Callable[[Client, str], Job], failed: list[str]
) -> Iterator[tuple[str, Job]]:
    """Each job for which it was done, with what came of it; of the others it is said why. Raises what is no job's."""
    for job_id in job_ids:
        try:
            job = do(asked, job_id)
        except ForemanError as error:
            if not _is_about_the_job(error):
                raise
            said = str(error) if job_id in str(error) else f"{job_id}: {error}"
            if len(job_ids) == 1:
                error.args = (said,)
                error.hint = error.hint or SEE_JOBS
                raise
            words.talk().print(f"foreman: {words.plain(said)}", markup=False, soft_wrap=True)
            failed.append(job_id)
        else:
            yield job_id, job


def _is_about_the_job(error: ForemanError) -> bool:
    """Whether the next job may fare better."""
    # All that these requests hold is an id.
    return isinstance(error, JobNotFound | RequestInvalid) or error.code in {"job_expired", "illegal_transition"}
