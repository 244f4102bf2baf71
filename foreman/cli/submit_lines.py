"""Many jobs from a file of JSON lines: read as they are sent, so that memory stays small however long the file is."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import IO, Any, Final
from uuid import uuid4

import click
import orjson

from foreman.cli import words
from foreman.cli.daemon import FAILED, print_json
from foreman.cli.progress import bar
from foreman.cli.request import Wanted, common, wanted_job
from foreman.client import Client, ForemanError

#: Jobs of one request. The same again after a fault must cut the file into the same pieces.
CHUNK: Final = 200


def submit_lines(asked: Client, patient: Client, lines: IO[bytes], wanted: Wanted) -> None:
    """Queue the jobs of a file, and print their ids as they are accepted, or with `wait` their answers in its order."""
    key = wanted.key or uuid4().hex
    job_ids: list[str] = []
    try:
        with bar("submitting", _count(lines)) as advance:
            for job in asked.submit_many(_read(lines, wanted.members), chunk=CHUNK, idempotency_key=key):
                if wanted.wait:
                    job_ids.append(job.job_id)
                elif wanted.as_json:
                    print_json(job.raw)
                else:
                    click.echo(job.job_id)
                advance()
    except (ForemanError, KeyboardInterrupt):
        # What was accepted stays so; the same file with the same key goes on where this ended.
        words.talk().print(
            f"to go on after this, repeat it with --key {key}", style="dim", markup=False, soft_wrap=True
        )
        raise
    if wanted.wait and not _wait_for_all(patient, job_ids, as_json=wanted.as_json):
        sys.exit(FAILED)


def _wait_for_all(patient: Client, job_ids: list[str], *, as_json: bool) -> bool:
    """Print each answer in the order of the file; whether all were answered."""
    well = True
    with bar("waiting", len(job_ids)) as advance:
        for job_id in job_ids:
            job = patient.wait(job_id)
            answer = patient.completion(job_id) if job.state == "done" else None
            well = well and answer is not None
            if as_json:
                print_json({"job": job.raw, "answer": None if answer is None else answer.raw})
            elif answer is not None:
                click.echo(words.printable(answer.text))
            else:
                message = job.error.message if job.error else job.state
                words.talk().print(f"foreman: {job_id}: {message}", markup=False, soft_wrap=True)
            advance()
    return well


def _read(lines: IO[bytes], members: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The jobs of a file; each line goes before what the options say."""
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            said = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise click.UsageError(f"line {number} is no JSON: {error}") from error
        if isinstance(said, str):
            job = wanted_job(said, members)
        elif isinstance(said, dict):
            job = {**common(members), **said}
        else:
            raise click.UsageError(f"line {number} is neither a JSON object nor a JSON string")
        if "model" not in job:
            raise click.UsageError(f"line {number} names no model, and there is no --model")
        yield job


def _count(lines: IO[bytes]) -> int | None:
    """How many lines there are, if one can look before one reads."""
    if not lines.seekable():
        return None
    count = sum(bool(line.strip()) for line in lines)
    lines.seek(0)
    return count
