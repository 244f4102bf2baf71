"""`foreman export` and `foreman import`: the log as lines of JSON, and a database made of them."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Final

import click
import orjson

from foreman.archive.backup import is_database
from foreman.archive.export import Export, Exported, Wanted
from foreman.archive.importing import import_log, opened
from foreman.archive.output import lines_to
from foreman.cli.daemon import FAILED, NOT_TRIED, end
from foreman.cli.files import database_option, works_on_file
from foreman.cli.progress import progress
from foreman.commands.schema import still_ours
from foreman.errors import CopyFailed, ExportInvalid

#: Exit status of a program whose reader has gone, as a shell reports a death by SIGPIPE.
NO_READER: Final = 141


@click.command()
@database_option
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="A file, .gz to compress.")
@click.option("--after", type=click.IntRange(min=0), default=0, metavar="POSITION", help="Only the events after it.")
@click.option("--until", type=click.IntRange(min=0), metavar="POSITION", help="Only the events up to it.")
@click.option("--artifacts", is_flag=True, help="The jobs' requests and answers too, as far as they are kept.")
@click.option("--cloudevents", is_flag=True, help="CloudEvents 1.0 instead; these cannot be imported.")
@click.option("--source", metavar="URI", help="With --cloudevents: what they name as their source.")
def export(
    *,
    database: Path,
    output: Path | None,
    after: int,
    until: int | None,
    artifacts: bool,
    cloudevents: bool,
    source: str | None,
) -> None:
    """Write the log as lines of JSON, archives included, to stdout or a file.

    Works beside a running daemon. Secrets of webhooks are never written.

    Example: foreman export --artifacts -o foreman.jsonl.gz
    """
    if cloudevents and artifacts:
        raise click.UsageError("CloudEvents are events; --artifacts goes without --cloudevents")
    if source is not None and not (cloudevents and source.strip()):
        raise click.UsageError("--source goes with --cloudevents, and is not empty")
    if output is None and sys.stdout.isatty() and artifacts:
        raise click.UsageError("artifacts are nothing to look at: name a file with -o, or pipe them on")
    wanted = Wanted(after=after, until=until, artifacts=artifacts, cloudevents=cloudevents, source=source)
    with still_ours(database) as file:
        made = Export(file, wanted)
        exported = _to_file(made, output) if output is not None else _to_stdout(made)
    if output is not None:
        header = exported.header
        beside = f" and {exported.artifacts:,} artifacts" if artifacts else ""
        click.echo(
            f"{made.count:,} events{beside} written to {output}; position {header.until}, hash {header.hash.hex()}",
            err=True,
        )


def _to_file(made: Export, output: Path) -> Exported:
    if is_database(output):
        raise CopyFailed(f"{output} is a database, and no export is written over one: `foreman backup` copies it")
    with progress("exporting", made.count) as bar, lines_to(output) as out:
        return made.write(out, bar.add)


def _to_stdout(made: Export) -> Exported:
    out: IO[bytes] = sys.stdout.buffer
    try:
        if sys.stdout.isatty():  # a bar would stand among the lines
            exported = made.write(out, lambda _: None)
        else:
            with progress("exporting", made.count) as bar:
                exported = made.write(out, bar.add)
        out.flush()
    except BrokenPipeError:
        # What is still in the buffer has no reader, and Python would complain of that at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(NO_READER)
    except OSError as error:
        raise CopyFailed(f"cannot write to stdout: {error.strerror}") from error
    return exported


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True, dir_okay=False))
@click.option("--into", type=click.Path(path_type=Path), required=True, help="The database file to make.")
@click.option("--json", "as_json", is_flag=True, help="Say what was made as JSON.")
@works_on_file
def import_(*, file: Path, into: Path, as_json: bool) -> None:
    """Make a new database of an export, with every event and every hash checked on the way.

    FILE may be compressed; - is stdin. Nothing is made if anything in it is wrong.

    Example: foreman import foreman.jsonl.gz --into foreman.db
    """
    with ExitStack() as stack:
        try:
            lines = stack.enter_context(opened(file))
        except OSError as error:
            said = f"cannot read {file}: {error.strerror or error}"
            end(ExportInvalid(said, hint="check its name, and who may read it"), NOT_TRIED, as_json=as_json)
        bar = stack.enter_context(progress("importing", lines.header.until))
        made = import_log(lines, into, bar.reach)
    if as_json:
        click.echo(orjson.dumps({"database": str(into), **made.as_json()}))
    else:
        click.echo(f"{into}: {made.position:,} events, {made.jobs:,} jobs, {made.contents:,} artifacts")
        click.echo(f"position {made.position}, hash {made.hash.hex()}")
    if made.missing:
        click.echo(f"{made.missing:,} artifacts were not in the export: export with --artifacts to have them", err=True)
    if made.refused:
        names = ", ".join(made.refused_names)
        click.echo(f"{made.refused:,} artifacts are not what the log says and were left out: {names}", err=True)
        sys.exit(FAILED)
