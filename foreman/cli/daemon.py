"""How the commands find the daemon, and how they end when it does not do what was asked."""

from __future__ import annotations

import errno
import functools
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final, NoReturn

import click
import orjson

from foreman.cli import words
from foreman.client import Client, NoAnswer, Retry, UnexpectedAnswer, Unreachable
from foreman.client.connection import DEFAULT_URL
from foreman.errors import ConfigError, ForemanError, JobNotFound, Unauthorized

#: What was asked for did not come about.
FAILED: Final = 1
#: It could not even be tried: no daemon, no right to ask, no database of foreman's.
NOT_TRIED: Final = 2
INTERRUPTED: Final = 128 + signal.SIGINT
#: What a command asks once: somebody waits for its words.
AT_ONCE: Final = Retry(within_s=0)
#: A submit repeats itself without harm, so a daemon that is just being restarted need not trouble anybody.
SHORTLY: Final = Retry(within_s=5)
#: What follows something outlasts a restart, an update, a laptop's lid.
PATIENT: Final = Retry(within_s=3_600)
#: Completing a word must not make anybody wait.
COMPLETE_WITHIN_S: Final = 1.0


def asks_daemon(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds `--url`, and ends the command as the errors of the daemon and of the way to it demand."""

    @click.option(
        "--url",
        envvar="FOREMAN_URL",
        show_envvar=True,
        default=DEFAULT_URL,
        show_default=True,
        help="Where foreman is. Its token is taken from FOREMAN_TOKEN.",
    )
    @functools.wraps(command)
    def asking(*args: Any, **kwargs: Any) -> Any:
        as_json = bool(kwargs.get("as_json"))
        with ending(as_json=as_json):
            try:
                return command(*args, **kwargs)
            except ConfigError as error:  # a URL or a token that cannot be one
                end(error, NOT_TRIED, as_json=as_json)
            except ForemanError:
                raise
            except OSError as error:
                if error.errno == errno.EPIPE:
                    raise  # who reads has enough: click ends it without a word
                end_unwritten(error)

    return asking


def end_unwritten(error: OSError) -> NoReturn:
    """Say that a file or else, as a rule, stdout does not take what is written: its disk is full."""
    what = error.filename or "cannot write to stdout"
    click.echo(f"foreman: {words.printable(f'{what}: {error.strerror or error}')}", err=True)
    os._exit(FAILED)  # else Python would write to it once more, and say how that failed


def json_option(what: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """`--json`, for scripts."""
    return click.option("--json", "as_json", is_flag=True, help=f"{what}, for scripts.")


def client(url: str, retry: Retry = AT_ONCE) -> Client:
    """The client; its token is FOREMAN_TOKEN."""
    return Client(url, retry=retry)


@contextmanager
def ending(*, as_json: bool = False) -> Iterator[None]:
    """End the command with a sentence and a status instead of a traceback."""
    try:
        yield
    except NoAnswer as error:
        end(error, FAILED, as_json=as_json)
    except (Unreachable, UnexpectedAnswer, Unauthorized) as error:
        end(error, NOT_TRIED, as_json=as_json)
    except ForemanError as error:
        end(error, FAILED, as_json=as_json)


def end(error: ForemanError, status: int, *, as_json: bool) -> NoReturn:
    """Say what is wrong on stderr, and end with this status."""
    if as_json:
        said = {"error": str(error), "code": error.code, "hint": error.hint or None}
        click.echo(orjson.dumps(said), err=True)
    else:
        click.echo(f"foreman: {words.printable(str(error))}", err=True)
        if error.hint:
            click.echo(f"  {words.printable(error.hint)}", err=True)
    sys.exit(status)


def print_json(value: Any) -> None:
    """One JSON value on a line of its own, at once: whoever reads a pipe wants it now."""
    click.echo(orjson.dumps(value))


def print_array(values: Iterable[Any]) -> None:
    """A JSON array, each value of it on a line, written as they come: there may be more than memory has room for."""
    before = b"["
    for value in values:
        click.echo(before + orjson.dumps(value), nl=False)
        before = b",\n"
    click.echo(b"]" if before != b"[" else b"[]")


def job_argument(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds `JOB`, which `the_job` understands."""
    return click.argument("job_id", metavar="[JOB]", required=False, shell_complete=complete_job)(command)


def the_job(asked: Client, job_id: str | None) -> str:
    """The job that was named, or else the newest. Raises JobNotFound if there is none at all."""
    if job_id is not None:
        return job_id
    for job in asked.list_jobs(page=1):
        return job.job_id
    raise JobNotFound("there are no jobs yet")


def complete_job(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Ids of the latest jobs that begin so; none if nobody answers at once."""
    return _complete(context, lambda asked: [job.job_id for job in _some(asked.list_jobs(page=50))], incomplete)


def complete_model(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Names of models that begin so."""
    return _complete(context, lambda asked: [model.name for model in asked.models()], incomplete)


def _some(jobs: Iterator[Any]) -> list[Any]:
    return [job for _, job in zip(range(50), jobs, strict=False)]


def _complete(context: click.Context, names: Callable[[Client], list[str]], incomplete: str) -> list[str]:
    url = context.params.get("url") or DEFAULT_URL
    try:
        with Client(url, timeout=COMPLETE_WITHIN_S, retry=AT_ONCE) as asked:
            return [name for name in names(asked) if name.startswith(incomplete)]
    except ForemanError:
        return []
