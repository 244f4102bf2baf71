"""`foreman backup`: a copy of the database beside a running daemon, audited before it is called one."""

from __future__ import annotations

import os
from pathlib import Path

import click
import orjson
from rich.filesize import decimal

from foreman.archive.backup import Backup, backup, dated, rotate
from foreman.audit import audit
from foreman.cli.files import database_option
from foreman.cli.progress import Bar, progress
from foreman.clock import SystemClock, seconds_between
from foreman.errors import CopyFailed, SchemaOlder
from foreman.events.codec import GENESIS, chain_hash
from foreman.events.history import History
from foreman.storage.still import still


@click.command("backup")
@click.argument("target", type=click.Path(), metavar="FILE")
@database_option
@click.option("--keep", type=click.IntRange(min=1), help="If FILE is a folder: keep so many backups in it.")
@click.option("--json", "as_json", is_flag=True, help="Say what was made as JSON.")
def backup_(*, target: str, database: Path, keep: int | None, as_json: bool) -> None:
    """Copy the database, which a daemon may be writing to, and audit the copy.

    FILE takes the place of an older backup only when the new one is sound. In a folder, which has to be
    there, each backup gets a name of its own, with the time. Archives of `foreman compact` are copied along.

    Example: foreman backup /backup/foreman.db
    """
    folder = _folder(target, is_meant=keep is not None)
    clock = SystemClock()
    began = clock.now()
    path = dated(folder, began) if folder is not None else Path(target)
    with progress("copying") as bar:
        checked: list[str] = []
        made = backup(database, path, lambda copy: checked.append(_audit(copy, database, bar)), bar.reach)
    gone = rotate(folder, keep, path) if folder is not None and keep is not None else []
    _say(made, checked[0], seconds_between(began, clock.now()), gone, as_json)


def _folder(target: str, *, is_meant: bool) -> Path | None:
    """The folder that is to have the backup, if it is not a file. Raises UsageError if only a folder will do."""
    path = Path(target)
    if path.is_dir():
        return path
    # Not made here: it would be, in the place of the disk that was to hold the backups and is not mounted.
    reason = "that is a file" if path.exists() else "there is no such folder: make it, and say it again"
    if is_meant:
        raise click.UsageError(f"--keep goes with a folder; {target}: {reason}")
    if target.endswith(("/", os.sep)):
        raise click.UsageError(f"{target}: {reason}")
    return None


def _audit(copy: Path, source: Path, bar: Bar) -> str:
    """What was checked of the copy. Raises CopyFailed unless it is sound."""
    bar.begin("auditing")
    try:
        report = audit(copy, progress=bar.reach)
    except SchemaOlder:
        # Before an upgrade a backup matters most; what the tables of an older schema should hold nobody here knows.
        _follow_chain(copy)
        return "of an older foreman: its log's chain is whole, its tables were not audited"
    if not report.is_clean:
        total = report.findings.counts.total()
        raise CopyFailed(
            f"the copy was not kept, since its audit found {total:,} faults, the first: "
            f"{report.findings.kept[0].sentence}. `foreman audit --db {source}` shows all of them"
        )
    return "audited and sound"


def _follow_chain(copy: Path) -> None:
    """Raises CopyFailed if an event of the copy does not fit the one before it."""
    before = GENESIS
    with still(copy) as file:
        for event in History(file).events():
            before = chain_hash(before, *event[:-1])
            if before != event.hash:
                raise CopyFailed(f"the copy was not kept: event {event.position} does not fit the hash before it")


def _say(made: Backup, checked: str, took_s: float, gone: list[Path], as_json: bool) -> None:
    if as_json:
        facts = {
            "file": str(made.path),
            "checked": checked,
            "position": made.position,
            "hash": made.hash.hex(),
            "bytes": made.size_bytes,
            "seconds": round(took_s, 3),
            "archives_copied": made.archives_copied,
            "archives_elsewhere": made.archives_elsewhere,
            "removed": [str(path) for path in gone],
        }
        click.echo(orjson.dumps(facts))
        return
    click.echo(f"{made.path}: {decimal(made.size_bytes)} in {took_s:.1f} s, {checked}")
    click.echo(f"position {made.position}, hash {made.hash.hex()}")
    if made.archives_copied:
        were = "archive was" if made.archives_copied == 1 else "archives were"
        click.echo(f"{made.archives_copied:,} {were} copied along")
    for file in made.archives_elsewhere:
        click.echo(f"not copied: the archive {file} stays where it is; the copy needs it", err=True)
    for path in gone:
        click.echo(f"removed {path}")
