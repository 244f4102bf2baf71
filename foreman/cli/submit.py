"""`foreman submit`: one job from words, or many from a file of JSON lines."""

from __future__ import annotations

import sys
from typing import IO, Any

import click

from foreman.cli import words
from foreman.cli.daemon import (
    FAILED,
    INTERRUPTED,
    SHORTLY,
    asks_daemon,
    client,
    complete_model,
    json_option,
    print_json,
)
from foreman.cli.follow import print_answer
from foreman.cli.parameters import Duration
from foreman.cli.request import Limit, Wanted, members_of, wanted_job
from foreman.cli.submit_lines import hint_of_models, submit_lines
from foreman.cli.submit_prompt import read_prompt, tell_of_unread
from foreman.cli.submit_wait import goes_on, patience, wait_for
from foreman.client import Client, Job
from foreman.errors import ModelNotFound


def _limit(context: click.Context, parameter: click.Parameter, written: str | None) -> Limit | None:
    return None if written is None else Limit(written, Duration().convert(written, parameter, context))


@click.command()
@click.argument("prompt", required=False)
@click.option("-m", "--model", shell_complete=complete_model, help="The model; lines of --jsonl may name their own.")
@click.option(
    "-f",
    "--file",
    "source",
    type=click.File("rb"),
    help="Read the prompt, or what goes after it, from a file; - is stdin.",
)
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
@click.option(
    "--timeout", metavar="DURATION", callback=_limit, help="With --wait: at most so long, e.g. 5m; the job goes on."
)
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
    timeout: Limit | None,
    key: str | None,
    as_json: bool,
    **given: Any,
) -> None:
    """Queue a job and print its id; it is on disk by then. The prompt may also come by -f or through a pipe.

    With a prompt, a pipe is read only if -f - says so, and goes after it: a loop keeps the list that it reads from.

    \b
    Example: foreman submit -m llama3.2 "Why is the sky blue?" --stream
             git diff | foreman submit -m qwen3 "Review this." -f - --wait
             foreman submit -m llama3.2 --jsonl prompts.jsonl --webhook http://127.0.0.1:9000/
    """
    if stream and (as_json or jsonl):
        raise click.UsageError("--stream prints one answer as text; take --wait instead")
    if timeout is not None and (stream or not wait):
        raise click.UsageError("--timeout goes with --wait: how long to wait for the whole answer")
    wanted = Wanted(members=members_of(**given), key=key, wait=wait, stream=stream, limit=timeout, as_json=as_json)
    with client(url, SHORTLY) as asked, client(url, patience(timeout)) as patient:
        if jsonl is not None:
            if prompt is not None or source is not None:
                raise click.UsageError("--jsonl brings its own prompts")
            submit_lines(asked, patient, jsonl, wanted)
            return
        if not wanted.members.get("model"):
            raise click.UsageError("Missing option '--model'.")
        text = read_prompt(prompt, source, has_images="images" in wanted.members)
        try:
            job = asked.submit(**wanted_job(text, wanted.members), idempotency_key=key)
        except ModelNotFound as error:
            error.hint = hint_of_models(asked)
            raise
        if prompt not in {None, "-"} and source is None:
            tell_of_unread()
        _after(patient, job, wanted)


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
        words.talk().print(f"\n{goes_on(job.job_id)}", style="dim", markup=False, soft_wrap=True)
        sys.exit(INTERRUPTED)


def _print_result(patient: Client, job_id: str, wanted: Wanted) -> None:
    job = wait_for(patient, job_id, wanted.limit)
    if wanted.as_json:
        answer = patient.completion(job_id).raw if job.state == "done" else None
        print_json({"job": job.raw, "answer": answer})
        if job.state != "done":
            sys.exit(FAILED)
        return
    words.write(f"{patient.completion(job_id).text}\n")
