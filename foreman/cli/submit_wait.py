"""Waiting for the job that was just submitted, with its state on a terminal's stderr meanwhile."""

from __future__ import annotations

import time
from typing import Final

from rich.console import Console
from rich.text import Text

from foreman.cli import words
from foreman.cli.away import AWAY, told_when_away
from foreman.cli.daemon import PATIENT
from foreman.cli.request import Limit
from foreman.client import Client, Job, Retry, Unreachable, WaitTimeout

#: How often the state is looked at: nobody reads faster, and each look costs the daemon something.
LOOK_S: Final = 1.0


def patience(limit: Limit | None) -> Retry:
    """How long a foreman that is away is waited for: no longer than the job."""
    return PATIENT if limit is None else Retry(within_s=min(PATIENT.within_s, limit.seconds))


def wait_for(patient: Client, job_id: str, limit: Limit | None) -> Job:
    """The job when it is over. Raises WaitTimeout and Unreachable, which say what one can do about the job."""
    shown = words.talk()
    seconds = None if limit is None else limit.seconds
    try:
        if shown.is_terminal:
            return _wait_in_sight(patient, job_id, seconds, shown)
        return patient.wait(job_id, timeout=seconds)
    except WaitTimeout as error:
        assert limit is not None
        error.args = (f"job {job_id} is still {error.job.state if error.job else 'not over'} after {limit.written}",)
        error.hint = goes_on(job_id)
        raise
    except Unreachable as error:
        error.hint = f"{error.hint}; {goes_on(job_id)}"
        raise


def goes_on(job_id: str) -> str:
    """What one can do about a job that nobody waits for any more."""
    return f"the job goes on: foreman logs -f {job_id}, or foreman cancel {job_id}"


def _wait_in_sight(patient: Client, job_id: str, timeout_s: float | None, shown: Console) -> Job:
    """The same, with a line that goes away when the job is over. Raises WaitTimeout."""
    shown.print(job_id, style="dim", soft_wrap=True)
    ends_at = None if timeout_s is None else time.monotonic() + timeout_s
    with shown.status("submitted") as line, told_when_away(lambda: line.update(AWAY)):
        wait_s = 0.0  # the first look is to have something to show
        while True:
            left_s = wait_s if ends_at is None else max(0.0, min(wait_s, ends_at - time.monotonic()))
            try:
                return patient.wait(job_id, timeout=left_s)
            except WaitTimeout as error:
                if ends_at is not None and time.monotonic() >= ends_at:
                    raise
                if error.job is not None:
                    line.update(_standing(error.job))
            wait_s = LOOK_S


def _standing(job: Job) -> Text:
    """How a job that is not over stands, in one line."""
    text = words.state(job.state)
    if job.place is not None:
        begins = words.span(job.place.eta_seconds)
        ahead = f"{job.place.ahead:,} ahead" if job.place.ahead else "next"
        text.append(f", {ahead}" + (f", begins in {begins}" if begins else ""), style="default")
    elif job.started_at is not None:
        text.append(f" for {words.span(words.between(job.started_at, None))}", style="default")
    return text
