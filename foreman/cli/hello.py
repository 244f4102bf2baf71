"""What `foreman serve` shows a person once it has started: what it found and where to look. Machines read the log."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from foreman import __version__
from foreman.app import Foreman
from foreman.commands.recovery import Recovery
from foreman.storage.database import SQLITE_VERSION
from foreman.target.inventory import Health

#: How long the first look at the target is waited for; one that is away has not answered by then either.
FIRST_LOOK_S: Final = 3.0
#: Models that are named.
NAMED: Final = 6


async def say_hello(foreman: Foreman, recovery: Recovery, url: str, console: Console) -> None:
    """Write the block once the target has been looked at."""
    await _first_look(foreman)
    console.print(block(foreman, recovery, url))


async def _first_look(foreman: Foreman) -> None:
    inventory, looked = foreman.inventory, asyncio.Event()

    async def told(before: Health, now: Health) -> None:
        looked.set()

    if inventory.health.up is None:
        inventory.on_change.append(told)
        with suppress(TimeoutError):
            async with asyncio.timeout(FIRST_LOOK_S):
                await looked.wait()
        inventory.on_change.remove(told)


def block(foreman: Foreman, recovery: Recovery, url: str) -> Table:
    """One line for each thing that matters at a start."""
    settings = foreman.settings
    shown = Table.grid(padding=(0, 2))
    shown.add_column(style="dim", no_wrap=True)
    shown.add_column(overflow="fold")
    shown.add_row("foreman", f"{__version__}, SQLite {SQLITE_VERSION}")
    shown.add_row("target", _target(foreman))
    shown.add_row("models", _models(foreman))
    shown.add_row("queue", _queue(foreman, recovery))
    shown.add_row("webhooks", f"{recovery.deliveries:,} to be delivered" if recovery.deliveries else "none pending")
    shown.add_row("database", escape(str(settings.db_path)))
    shown.add_row("open to", _open_to(foreman))
    shown.add_row("for programs", f"OLLAMA_HOST={url}")
    shown.add_row("dashboard", f"[bold]{url}/dashboard[/bold]")
    return shown


def _target(foreman: Foreman) -> str:
    health, url = foreman.inventory.health, escape(foreman.settings.ollama_url)
    if health.up:
        return f"{url}, [green]Ollama {escape(health.version)}[/green]"
    if health.up is None:
        return f"{url}, [yellow]no answer yet[/yellow]; jobs wait for it"
    return f"{url}, [red]away[/red] ({escape(health.error)}); jobs wait for it"


def _models(foreman: Foreman) -> str:
    inventory, key = foreman.inventory, foreman.residency.key
    if not inventory.known:
        return "not known yet"
    names = sorted(model.name for model in inventory.listing.models.values())
    loaded = {inventory.name_of(digest) or digest for digest in inventory.listing.loaded}
    named = ", ".join(escape(name) for name in names[:NAMED]) + (", …" if len(names) > NAMED else "")
    resident = ", ".join(sorted(escape(name) for name in loaded)) if loaded or key else ""
    return f"{len(names)} ({named}); in memory: {resident or 'none'}" if names else "none: pull one with Ollama first"


def _queue(foreman: Foreman, recovery: Recovery) -> str:
    waiting = len(foreman.ledger.work.queue)
    if not waiting and not recovery.cancelled:
        return "empty"
    notes = [f"{waiting:,} waiting"]
    if recovery.requeued:
        notes.append(f"{recovery.requeued:,} of them had been started and are queued again")
    if recovery.cancelled:
        notes.append(f"{recovery.cancelled:,} cancelled, whose callers are gone")
    return ", ".join(notes)


def _open_to(foreman: Foreman) -> str:
    if foreman.settings.token is not None:
        return "who has the token"
    if foreman.http.is_local:
        return "this machine"
    return "[yellow]anybody who reaches the port[/yellow]; set FOREMAN_TOKEN to change that"
