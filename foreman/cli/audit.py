"""`foreman audit`: whether anything in a database was changed. Only looks; shows what `foreman.audit` finds."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Final

import click
import orjson
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from foreman.audit import Finding, Report, Witness, audit, witnesses_in
from foreman.cli import words
from foreman.cli.daemon import NOT_TRIED, end
from foreman.cli.files import database_option
from foreman.cli.progress import progress
from foreman.errors import DatabaseUnusable

FINDINGS: Final = 1
INDENT: Final = 2


class WitnessType(click.ParamType[Witness]):
    """`POSITION:HASH`."""

    name = "witness"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Witness:
        """Read it."""
        try:
            return Witness.of(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class WitnessFile(click.Path):
    """A file of them, one on each line."""

    name = "file"

    def __init__(self) -> None:
        super().__init__(exists=True, dir_okay=False, readable=True, allow_dash=True)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read it."""
        path = str(super().convert(value, param, ctx))
        try:
            with click.open_file(path, encoding="utf-8") as file:
                return witnesses_in(file.read())
        except (ValueError, OSError) as error:
            self.fail(f"{path}: {error}", param, ctx)


@click.command("audit")
@database_option
@click.option(
    "--witness",
    "given",
    type=WitnessType(),
    multiple=True,
    metavar="POSITION:HASH",
    help="The log must have had this hash at this position; may be given more than once.",
)
@click.option(
    "--witnesses",
    "listed",
    type=WitnessFile(),
    multiple=True,
    metavar="FILE",
    help="The same for each line of a file; - is stdin.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for scripts.")
def audit_(*, database: Path, given: tuple[Witness, ...], listed: tuple[list[Witness], ...], as_json: bool) -> None:
    """Check that nobody has changed anything in a database, whether a daemon writes to it or not.

    Checks the log's hash chain and every transition in it, and that each table, artifact and delivery is what the
    log says. Exits with 0 if nothing is wrong, 1 if something is, 2 if the file cannot be read.

    Example: foreman audit --db /backup/foreman.db --witness 4711:$HASH
    """
    witnesses = [*given, *(witness for witnesses in listed for witness in witnesses)]
    try:
        with progress("auditing") as bar:
            report = audit(database, witnesses, bar.reach)
    except DatabaseUnusable as error:
        end(error, NOT_TRIED, as_json=as_json)  # nothing can be said of it
    if as_json:
        click.echo(orjson.dumps(report.as_json()))
    else:
        _show(report, witnesses=len(witnesses))
    sys.exit(0 if report.is_clean else FINDINGS)


def _show(report: Report, *, witnesses: int) -> None:
    out = words.console()
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    checked = {
        "database": words.plain(str(report.path)),
        "events": f"{report.events:,}",
        "jobs": f"{report.jobs:,}",
        "artifacts": f"{report.artifacts:,}",
        "deliveries": f"{report.deliveries:,}",
        "archives": f"{report.archives:,}",
        "witnesses": f"{witnesses:,}",
        "took": words.span(report.seconds),
    }
    for name, value in checked.items():
        table.add_row(name, Text(value))
    out.print(table)
    _show_head(f"{report.position}:{report.hash.hex()}", out, under=max(map(len, checked)))
    if report.is_clean:
        out.print(Text("✓ nothing is wrong", style="green"))
        return
    for finding in report.findings.kept:
        out.print()
        _show_finding(finding, out)
    out.print()
    total = sum(report.findings.counts.values())
    kinds = ", ".join(f"{code} {count:,}" for code, count in report.findings.counts.items())
    out.print(Text(f"✗ {total:,} {'finding' if total == 1 else 'findings'}: {kinds}", style="bold red"))


def _show_head(head: str, out: Console, *, under: int) -> None:
    """The one value that is noted elsewhere: never divided, so that it is copied in one piece."""
    name = f"{'head':<{under}}  "
    between = "\n" if len(name + head) > out.width else ""
    out.print(Text.assemble((name, "dim"), between, head), soft_wrap=True)


def _show_finding(finding: Finding, out: Console) -> None:
    out.print(Text.assemble(("✗ ", "red"), (finding.code.value, "bold"), " ", words.plain(finding.sentence)))
    where = [f"table {finding.table}"] if finding.table else []
    if finding.position is not None:
        where.append(f"event {finding.position}")
    if finding.since is not None:
        where.append(f"since {finding.since}")
    for line in (", ".join(where), finding.what_to_do):
        if line:
            out.print(Padding(Text(words.plain(line), style="dim"), (0, 0, 0, INDENT)))
