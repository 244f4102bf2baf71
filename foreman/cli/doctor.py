"""`foreman doctor`: looks at everything that a foreman needs, and says for each thing what to do. Changes nothing."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Final

import click
import orjson
from rich.console import Console
from rich.status import Status

from foreman.cli import checks
from foreman.cli.checks import Finding, Verdict
from foreman.cli.checks_daemon import of_daemon
from foreman.cli.checks_target import of_target
from foreman.cli.words import plain
from foreman.client.connection import DEFAULT_URL

MARKS: Final = {
    Verdict.OK: ("✓", "green"),
    Verdict.NOTE: ("·", "cyan"),
    Verdict.WARNING: ("!", "yellow"),
    Verdict.FAILED: ("✗", "red"),
}
SICK: Final = 1


@click.command()
@click.option("--url", envvar="FOREMAN_URL", default=DEFAULT_URL, show_default=True, help="The daemon's.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object for scripts.")
def doctor(*, url: str, as_json: bool) -> None:
    """Check settings, daemon, token, database, disk, clock and target, and say what to do about each fault.

    Reads the same environment as the daemon. The target, the daemon's own if one serves, is asked for one token. Exits
    with 1 if something failed.

    Example: FOREMAN_OLLAMA_URL=http://gpu-box:11434 foreman doctor
    """
    sys.exit(SICK if asyncio.run(_examine(url.rstrip("/"), as_json=as_json)) else 0)


async def _examine(url: str, *, as_json: bool) -> bool:
    """Whether something failed."""
    out, talk = Console(highlight=False), Console(stderr=True)
    found: list[Finding] = []
    with talk.status("looking") as status:
        async for finding in _findings(url, status):
            found.append(finding)
            if not as_json:
                _show(out, finding)
    failed = any(finding.verdict is Verdict.FAILED for finding in found)
    if as_json:
        click.echo(orjson.dumps({"ok": not failed, "checks": [asdict(finding) for finding in found]}))
    return failed


async def _findings(url: str, status: Status) -> AsyncIterator[Finding]:
    settings, found = checks.of_settings(os.environ)
    for finding in found:
        yield finding
    if settings is None:
        return
    status.update("asking the daemon")
    daemon, found = await of_daemon(url, settings.token.get_secret_value() if settings.token else None)
    for finding in found:
        yield finding
    if daemon is None or daemon.admits:
        for finding in checks.of_secrets(settings, daemon_asks=None if daemon is None else daemon.asks_token):
            yield finding
    yield checks.of_disk(settings.db_path)
    status.update("reading the database")
    for finding in checks.of_database(settings.db_path):
        yield finding
    status.update("asking the target")
    async for finding in of_target(settings, daemon, status.update):
        yield finding


def _show(console: Console, finding: Finding) -> None:
    mark, colour = MARKS[finding.verdict]
    console.print(f"[{colour}]{mark}[/{colour}] [bold]{finding.subject:<12}[/bold]", end="")
    console.print(plain(finding.said), markup=False, soft_wrap=True)
    if finding.next_step:
        console.print(f"  {'':<12}→ {plain(finding.next_step)}", markup=False, style="dim", soft_wrap=True)
