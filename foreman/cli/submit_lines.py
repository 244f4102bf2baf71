"""Many jobs from a file of JSON lines: read as they are sent, so that memory stays small however long the file is."""

from __future__ import annotations

import codecs
import re
import shlex
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping
from typing import IO, Any, Final
from uuid import uuid4

import click
import orjson

from foreman.cli import words
from foreman.cli.daemon import FAILED, print_json
from foreman.cli.progress import progress
from foreman.cli.request import Wanted, completed_job, wanted_job
from foreman.client import Client, Completion, ForemanError, Job, JobExpired, WaitTimeout
from foreman.errors import ModelNotFound, RequestInvalid

#: Jobs of one request. The same again after a fault must cut the file into the same pieces.
CHUNK: Final = 200
#: Models that are named when another was asked for.
NAMED: Final = 12


def submit_lines(asked: Client, patient: Client, lines: IO[bytes], wanted: Wanted) -> None:
    """Queue the jobs of a file, and print their ids as they are accepted, or with `wait` their answers in its order."""
    key = wanted.key or uuid4().hex
    job_ids: list[str] = []
    accepted = 0
    try:
        with progress("submitting", _count(lines)) as bar:
            for job in _submitted(asked, lines, wanted.members, key):
                accepted += 1
                if wanted.wait:
                    job_ids.append(job.job_id)
                elif wanted.as_json:
                    print_json(job.raw)
                else:
                    click.echo(job.job_id)
                bar.add(1)
        if not accepted:  # it may well be right, and nobody should have to wonder
            words.talk().print("0 jobs: no line has one", style="dim", soft_wrap=True)
        answered = not wanted.wait or _wait_for_all(patient, job_ids, wanted)
    except (ForemanError, click.UsageError, KeyboardInterrupt) as fault:
        # What was accepted stays so; the same file with the same key goes on where this ended.
        _say_how_to_go_on(fault, key, as_json=wanted.as_json)
        raise
    if not answered:
        sys.exit(FAILED)


def _submitted(asked: Client, lines: IO[bytes], members: Mapping[str, Any], key: str) -> Iterator[Job]:
    """Queue the jobs and hand them out. A fault names the line that it is about."""
    accepted = 0
    #: Where the jobs of the piece that is under way are from, and of the one that was read after it to close it.
    places: deque[tuple[int, int]] = deque(maxlen=CHUNK + 1)
    try:
        for job in asked.submit_many(_read(lines, members, places), chunk=CHUNK, idempotency_key=key):
            accepted += 1
            yield job
    except (RequestInvalid, ModelNotFound) as error:
        said = re.fullmatch(r"job ([0-9]+): (.*)", str(error), re.DOTALL)
        # A job that was sent alone has no number.
        number, message = (int(said[1]), said[2]) if said else (accepted + 1, str(error))
        line = dict(places).get(number)
        if line is not None:
            error.args = (f"line {line}: {message}",)
        if isinstance(error, ModelNotFound):
            error.hint = hint_of_models(asked)
        raise


def hint_of_models(asked: Client) -> str:
    """The names that one may have meant."""
    names = sorted(words.plain(model.name) for model in asked.models())
    return f"there are: {', '.join(names[:NAMED])}{', …' if len(names) > NAMED else ''}" if names else "there is none"


def _say_how_to_go_on(fault: BaseException, key: str, *, as_json: bool) -> None:
    said = f"to go on after this, repeat it with --key {shlex.quote(key)}"
    if as_json and isinstance(fault, ForemanError):  # its JSON is all that stderr is to have
        fault.hint = f"{fault.hint}; {said}" if fault.hint else said
    else:
        words.talk().print(said, style="dim", markup=False, soft_wrap=True)


def _wait_for_all(patient: Client, job_ids: list[str], wanted: Wanted) -> bool:
    """Print each answer in the order of the file; whether all were answered. Raises WaitTimeout."""
    well, began_at = True, time.monotonic()
    with progress("waiting", len(job_ids)) as bar:
        for number, job_id in enumerate(job_ids):
            left_s = wanted.limit and max(0.0, began_at + wanted.limit.seconds - time.monotonic())
            try:
                job, answer, fault = _answer(patient, job_id, left_s)
            except WaitTimeout as error:
                assert wanted.limit is not None
                said = f"{number:,} of {len(job_ids):,} jobs were over in their order after {wanted.limit.written}"
                raise WaitTimeout(f"{said}; all go on") from error
            well = well and not fault
            if wanted.as_json:
                print_json({"job": job, "answer": answer and answer.raw})
            elif answer is not None:
                words.write(f"{answer.text}\n")
            else:
                words.talk().print(f"foreman: {job_id}: {words.plain(fault)}", markup=False, soft_wrap=True)
            bar.add(1)
    return well


def _answer(patient: Client, job_id: str, timeout_s: float | None) -> tuple[Mapping[str, Any], Completion | None, str]:
    """The job as it ended, its answer, and why it has none. Raises WaitTimeout."""
    try:
        job = patient.wait(job_id, timeout=timeout_s)
        if job.state == "done":
            return job.raw, patient.completion(job_id), ""
    except JobExpired as error:  # to wait for those before it took so long; the next may be there
        return {"job_id": job_id, "state": "expired"}, None, str(error)
    return job.raw, None, (job.error and job.error.message) or job.state


def _read(lines: IO[bytes], members: Mapping[str, Any], places: deque[tuple[int, int]]) -> Iterator[Mapping[str, Any]]:
    """The jobs of a file; each line goes before what the options say. `places` gets the number of each and its line."""
    job_number = 0
    for number, read in enumerate(lines, 1):
        line = read.removeprefix(codecs.BOM_UTF8) if number == 1 else read  # editors of one system begin files so
        if not line.strip():
            continue
        try:
            said = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise click.UsageError(f"line {number} is no JSON: {error.msg}, at its column {error.colno}") from error
        if isinstance(said, str):
            job = wanted_job(said, members)
        elif isinstance(said, dict):
            job = completed_job(said, members)
        else:
            raise click.UsageError(f"line {number} is neither a JSON object nor a JSON string")
        if "model" not in job:
            raise click.UsageError(f"line {number} names no model, and there is no --model")
        job_number += 1
        places.append((job_number, number))
        yield job


def _count(lines: IO[bytes]) -> int | None:
    """How many lines there are, if one can look before one reads."""
    if not lines.seekable():
        return None
    start = lines.tell()  # stdin may have been read by another before
    count = sum(bool(line.strip()) for line in lines)
    lines.seek(start)
    return count
