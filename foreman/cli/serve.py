"""`foreman serve`: the daemon in this process, until a signal or a fault ends it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import click
import uvloop
from rich.console import Console

from foreman import __version__
from foreman.app import Foreman
from foreman.cli.hello import say_hello
from foreman.commands.recovery import Recovery
from foreman.config.help import settings_help
from foreman.config.settings import Settings
from foreman.config.unknown import unknown_variables
from foreman.embedded import launch
from foreman.logs import configure, get_logger

log = get_logger(__name__)

#: Exit status after a second signal, as a shell reports a death by SIGINT.
FORCED: Final = 130
FAULT: Final = 1


class ServeCommand(click.Command):
    """Its help ends with the table of settings."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the settings as they are in the table, not rewrapped."""
        formatter.write("\n" + settings_help(formatter.width) + "\n")


@click.command(cls=ServeCommand)
@click.option(
    "--embedded",
    is_flag=True,
    help="Serve a small model of foreman's own, or the GGUF file FOREMAN_EMBEDDED_GGUF names, instead of a server.",
)
@click.option("--embeddings", is_flag=True, help="With --embedded: an embedding model too, 84 MB to fetch once.")
@click.option("--until-stdin-closes", is_flag=True, hidden=True, help="Stop when whoever started this is gone.")
def serve(*, embedded: bool, embeddings: bool, until_stdin_closes: bool) -> None:
    """Run the daemon. Everything is set by environment variables.

    Example: FOREMAN_OLLAMA_URL=http://gpu-box:11434 foreman serve
    """
    if embeddings and not embedded:
        raise click.UsageError("--embeddings goes with --embedded; an Ollama server brings its own models")
    settings = Settings.load(os.environ)
    configure(settings.log_format, settings.log_level, settings.secrets)
    if embedded and os.environ.get("FOREMAN_OLLAMA_URL"):
        log.warning("setting.ignored", variable="FOREMAN_OLLAMA_URL", hint="--embedded serves a model of its own")
    for unknown in unknown_variables(os.environ):
        log.warning("setting.unknown", variable=unknown.variable, hint=str(unknown))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        sys.exit(runner.run(run(settings, Options(embedded, embeddings, until_stdin_closes))))


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line adds to the settings."""

    embedded: bool = False
    embeddings: bool = False
    #: Stop also when stdin closes, as it does when the parent dies.
    tied: bool = False


async def run(settings: Settings, options: Options) -> int:
    """Serve until SIGINT, SIGTERM or a fault; the exit status."""
    stopping = asyncio.Event()
    _on_signals(stopping)
    if options.tied:
        _on_closed_stdin(stopping)
    async with _target(settings, options) as final:
        foreman = Foreman(final)
        try:
            recovery = await foreman.start()
            _log_start(final, foreman, recovery)
            async with asyncio.TaskGroup() as side:
                if sys.stderr.isatty() and final.log_format == "text":
                    hello = say_hello(foreman, recovery, _url(*foreman.http.addresses[0]), Console(stderr=True))
                    side.create_task(hello, name="hello")
                status = await _until_over(foreman, stopping)
        finally:
            await foreman.stop()
    log.info("daemon.stopped", exit_code=status)
    return status


async def _until_over(foreman: Foreman, stopping: asyncio.Event) -> int:
    asked = asyncio.create_task(stopping.wait(), name="signal")
    died = asyncio.create_task(foreman.wait(), name="death")
    done, pending = await asyncio.wait({asked, died}, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    if died in done:
        error = died.exception()
        log.error("daemon.failed", error=str(error), hint=getattr(error.__cause__, "hint", "") if error else "")
        return FAULT
    return 0


@asynccontextmanager
async def _target(settings: Settings, options: Options) -> AsyncIterator[Settings]:
    """The settings to run with; with `embedded` they point at a server started here for as long as foreman runs."""
    if not options.embedded:
        yield settings
        return
    # An embedding model stays loaded beside the chat model, as it does with a real Ollama.
    async with launch(embeddings=options.embeddings, max_loaded=2 if options.embeddings else 1) as url:
        yield settings.model_copy(update={"ollama_url": url})


def _on_signals(stopping: asyncio.Event) -> None:
    """The first signal asks for a graceful stop, the second does not ask."""

    def received(name: str) -> None:
        if stopping.is_set():
            log.warning("daemon.forced", signal=name)
            os._exit(FORCED)
        log.info("daemon.stopping", signal=name)
        stopping.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, received, number.name)


def _written(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _url(host: str, port: int) -> str:
    """Where to reach it from this machine."""
    return f"http://{_written({'::': '127.0.0.1', '0.0.0.0': '127.0.0.1'}.get(host, host), port)}"  # noqa: S104


def _on_closed_stdin(stopping: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()

    def readable() -> None:
        if not os.read(sys.stdin.fileno(), 1024):
            loop.remove_reader(sys.stdin.fileno())
            stopping.set()

    loop.add_reader(sys.stdin.fileno(), readable)


def _log_start(settings: Settings, foreman: Foreman, recovery: Recovery) -> None:
    log.info(
        "daemon.started",
        address=_written(*foreman.http.addresses[0]),
        url=_url(*foreman.http.addresses[0]),
        version=__version__,
        target=settings.ollama_url,
        database=str(settings.db_path),
        waiting=len(foreman.ledger.work.queue),
    )
    if recovery.requeued or recovery.cancelled:
        log.info("daemon.recovered", requeued=recovery.requeued, cancelled=recovery.cancelled)
    if recovery.deliveries:
        log.info("webhooks.pending", count=recovery.deliveries)
    if settings.token is None and not foreman.http.is_local:
        log.warning("auth.off", address=str(settings.addr), hint="anybody who reaches it may use it: set FOREMAN_TOKEN")
