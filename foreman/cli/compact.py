"""`foreman compact`: old events into an archive file."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click
import orjson
from rich.filesize import decimal

from foreman.archive.compact import Plan, compact, plan
from foreman.cli.files import Moment, database_option
from foreman.cli.progress import progress
from foreman.clock import Micros, rfc3339
from foreman.commands.schema import MIGRATIONS, still_ours
from foreman.events.archives import Archive
from foreman.storage.database import Database
from foreman.storage.still import still


@click.command("compact")
@database_option
@click.option("--before", type=Moment(), required=True, metavar="DATE|AGE", help="Older events go: 2026-11-01, 30d.")
@click.option(
    "--archive",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="The archives' folder.  [default: the database's name with .archive added, beside it]",
)
@click.option("--dry-run", is_flag=True, help="Only say what would be moved; a daemon may run.")
@click.option("--json", "as_json", is_flag=True, help="Say it as JSON.")
def compact_(*, database: Path, before: Micros, folder: Path | None, dry_run: bool, as_json: bool) -> None:
    """Move the oldest events into a compressed archive; audit, replay and export read it as before.

    The daemon must be stopped. Events of jobs that are not expired stay, and all that came after them.
    Keep the archive files: a part of the log is only there.

    Example: foreman compact --before 30d
    """
    with still_ours(database) as file:  # also before the rest, which would make the file if there is none
        planned, archive = plan(file, before), None
        into = folder or file.path.with_name(f"{file.path.name}.archive")
    if not dry_run:
        planned, archive = asyncio.run(_compact(database, before, into))
    if as_json:
        click.echo(orjson.dumps(_facts(planned, archive, into)))
    else:
        _say(planned, archive, before, into)


async def _compact(path: Path, before: Micros, folder: Path) -> tuple[Plan, Archive | None]:
    database = Database(path, MIGRATIONS)
    await database.open()  # holds the lock: no daemon, and no second one of these
    try:
        with still(path) as file:
            planned = plan(file, before)
        with progress("archiving", planned.count) as bar:
            return planned, await compact(database, planned, folder, bar.add)
    finally:
        await database.close()


def _facts(planned: Plan, archive: Archive | None, folder: Path) -> dict[str, object]:
    return {
        "events": planned.count,
        "first": planned.header.after + 1 if planned.count else None,
        "last": planned.header.until if planned.count else None,
        "bytes": planned.size_bytes,
        "archive": str(folder / planned.name) if planned.count else None,
        "archive_bytes": archive.bytes if archive else None,
        "sha256": archive.sha256 if archive else None,
        "moved": archive is not None,
        "because": planned.because,
    }


def _say(planned: Plan, archive: Archive | None, before: Micros, folder: Path) -> None:
    path, header = folder / planned.name, planned.header
    if not planned.count:
        click.echo(f"nothing to move before {rfc3339(before)}: {planned.because}")
        return
    events = f"{planned.count:,} events ({header.after + 1} to {header.until}, {decimal(planned.size_bytes)} of text)"
    if archive is None:
        click.echo(f"would move {events} to {path}")
    else:
        click.echo(f"moved {events} to {path} ({decimal(archive.bytes)})")
        click.echo(f"sha256 {archive.sha256}")
    click.echo(f"no more than these: {planned.because}")
