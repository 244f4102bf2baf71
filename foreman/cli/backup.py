"""`foreman backup`: a copy of the database beside a running daemon, audited before it is called one."""

from __future__ import annotations

from pathlib import Path

import click
import orjson
from rich.filesize import decimal

from foreman.archive.backup import Backup, backup, dated, rotate
from foreman.audit import audit
from foreman.cli.files import Bar, database_option, progress
from foreman.clock import SystemClock, seconds_between
from foreman.errors import CopyFailed


@click.command("backup")
@click.argument("target", type=click.Path(path_type=Path), metavar="FILE")
@database_option
@click.option("--keep", type=click.IntRange(min=1), help="If FILE is a folder: keep so many backups in it.")
@click.option("--json", "as_json", is_flag=True, help="Say what was made as JSON.")
def backup_(*, target: Path, database: Path, keep: int | None, as_json: bool) -> None:
    """Copy the database, which a daemon may be writing to, and audit the copy.

    FILE takes the place of an older backup only when the new one is sound. In a folder each backup gets
    a name of its own, with the time. Archives of `foreman compact` are copied along.

    Example: foreman backup /backup/foreman.db
    """
    folder = target if target.is_dir() else None
    if keep is not None and folder is None:
        raise click.UsageError("--keep goes with a folder")
    clock = SystemClock()
    began = clock.now()
    path = dated(folder, began) if folder is not None else target
    with progress("copying") as bar:
        made = backup(database, path, lambda copy: _audit(copy, database, bar), bar.reach)
    gone = rotate(folder, keep, path) if folder is not None and keep is not None else []
    _say(made, seconds_between(began, clock.now()), gone, as_json)


def _audit(copy: Path, source: Path, bar: Bar) -> None:
    """Raises CopyFailed unless the audit of the copy finds nothing."""
    bar.begin("auditing")
    report = audit(copy, progress=bar.reach)
    if not report.is_clean:
        total = report.findings.counts.total()
        raise CopyFailed(
            f"the copy was not kept, since its audit found {total:,} faults, the first: "
            f"{report.findings.kept[0].sentence}. `foreman audit --db {source}` shows all of them"
        )


def _say(made: Backup, took_s: float, gone: list[Path], as_json: bool) -> None:
    if as_json:
        facts = {
            "file": str(made.path),
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
    click.echo(f"{made.path}: {decimal(made.size_bytes)} in {took_s:.1f} s, audited and sound")
    click.echo(f"position {made.position}, hash {made.hash.hex()}")
    if made.archives_copied:
        click.echo(f"{made.archives_copied} archives were copied along")
    for file in made.archives_elsewhere:
        click.echo(f"not copied: the archive {file} stays where it is; the copy needs it", err=True)
    for path in gone:
        click.echo(f"removed {path}")
