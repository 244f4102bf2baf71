"""`foreman submit`: one job from words, or many from a file of JSON lines."""

from __future__ import annotations

import sys
from typing import IO, Any, Final

import click

from foreman.cli import words
from foreman.cli.daemon import (
    FAILED,
    INTERRUPTED,
    PATIENT,
    SHORTLY,
    asks_daemon,
    client,
    complete_model,
    json_option,
    print_json,
)
from foreman.cli.follow import print_answer
from foreman.cli.parameters import Duration
from foreman.cli.request import Wanted, members_of, wanted_job
from foreman.cli.submit_lines import submit_lines
from foreman.client import Client, Job
from foreman.errors import ModelNotFound

#: Models that are named when another was asked for.
NAMED: Final = 12


@click.command()
@click.argument("prompt", required=False)
@click.option("-m", "--model", shell_complete=complete_model, help="The model; lines of --jsonl may name their own.")
@click.option("-f", "--file", "source", type=click.File("rb"), help="Read the prompt from a file; - is stdin.")
@click.option("--jsonl", type=click.File("rb"), help="Many jobs: a file of lines, each a JSON job or a JSON string.")
@click.option("--system", help="A system message.")
@click.option("--image", "images", multiple=True, type=click.File("rb"), help="An image to go with it.")
@click.option("-o", "--option", "options", multiple=True, metavar="NAME=VALUE", help="An option of Ollama's.")
@click.option("--format", "form", help="'json', or a file with a JSON schema of the answer.")
@click.option("--generate", is_flag=True, help="Ask /api/generate instead of /api/chat.")
@click.option("--class", "job_class", type=click.Choice(["batch", "interactive"]), help="Who waits for the answer.")
@click.option("--webhook", help="A URL to be told of each step.")
@click.option("--key", help="An idempotency key: the same again with the same key makes no second job.")
@click.option("--wait", is_flag=True, help="Wait for the answer and print it.")
@click.option("--stream", is_flag=True, help="Print the answer as it comes.")
@click.option("--timeout", type=Duration(), help="With --wait: at most so long, e.g. 5m; the job goes on.")
@json_option("JSON: the job; with --wait also its answer; one line each for many")
@asks_daemon
def submit(
    *,
    url: str,
    prompt: str | None,
    source: IO[bytes] | None,
    jsonl: IO[bytes] | None,
    wait: bool,
    stream: bool,
    timeout: float | None,
    key: str | None,
    as_json: bool,
    **given: Any,
) -> None:
    """Queue a job and print its id; it is on disk by then. The prompt may also come by -f or through a pipe.

    \b
    Example: foreman submit -m llama3.2 "Why is the sky blue?" --stream
             git diff | foreman submit -m qwen3 --system "Review this." --wait
             foreman submit -m llama3.2 --jsonl prompts.jsonl --webhook http://127.0.0.1:9000/
    """
    if stream and (as_json or jsonl):
        raise click.UsageError("--stream prints one answer as text; take --wait instead")
    if timeout is not None and (stream or not wait):
        raise click.UsageError("--timeout goes with --wait: how long to wait for the whole answer")
    wanted = Wanted(members=members_of(**given), key=key, wait=wait, stream=stream, timeout_s=timeout, as_json=as_json)
    with client(url, SHORTLY) as asked, client(url, PATIENT) as patient:
        if jsonl is not None:
            if prompt is not None or source is not None:
                raise click.UsageError("--jsonl brings its own prompts")
            submit_lines(asked, patient, jsonl, wanted)
            return
        if not wanted.members.get("model"):
            raise click.UsageError("Missing option '--model'.")
        text = _prompt(prompt, source)
        try:
            job = asked.submit(**wanted_job(text, wanted.members), idempotency_key=key)
        except ModelNotFound as error:
            error.hint = _models(asked)
            raise
        _after(patient, job, wanted)


def _models(asked: Client) -> str:
    """The names that one may have meant."""
    names = sorted(words.plain(model.name) for model in asked.models())
    return f"there are: {', '.join(names[:NAMED])}{', …' if len(names) > NAMED else ''}" if names else "there is none"


def _prompt(prompt: str | None, source: IO[bytes] | None) -> str:
    if prompt is not None and source is not None:
        raise click.UsageError("the prompt is given twice: as words and by --file")
    if prompt is not None and prompt != "-":
        return prompt
    stream: IO[bytes] = source or sys.stdin.buffer
    if source is None and stream.isatty() and prompt is None:
        raise click.UsageError("Missing argument 'PROMPT'; it may also come by --file or through a pipe.")
    try:
        text = stream.read().decode()
    except UnicodeDecodeError as error:
        raise click.UsageError(f"the prompt is no UTF-8 text: {error}") from error
    if not text.strip():  # what was to write it has failed, as a rule
        raise click.UsageError("the prompt that was read is empty")
    return text


def _after(patient: Client, job: Job, wanted: Wanted) -> None:
    """Print the job, or what it comes to."""
    if not wanted.wait and not wanted.stream:
        if wanted.as_json:
            print_json(job.raw)
        else:
            click.echo(job.job_id)
        return
    try:
        if wanted.stream:
            print_answer(patient, job.job_id)
        else:
            _print_result(patient, job.job_id, wanted)
    except KeyboardInterrupt:
        _goes_on(job.job_id)


def _goes_on(job_id: str) -> None:
    words.talk().print(
        f"\nthe job goes on: foreman logs -f {job_id}, or foreman cancel {job_id}", style="dim", soft_wrap=True
    )
    sys.exit(INTERRUPTED)


def _print_result(patient: Client, job_id: str, wanted: Wanted) -> None:
    job = patient.wait(job_id, timeout=wanted.timeout_s)
    if wanted.as_json:
        answer = patient.completion(job_id).raw if job.state == "done" else None
        print_json({"job": job.raw, "answer": answer})
        if job.state != "done":
            sys.exit(FAILED)
        return
    words.write(f"{patient.completion(job_id).text}\n")
