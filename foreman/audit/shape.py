"""The file itself: SQLite finds it whole, and it has the tables and triggers that migrations make, and no others."""

from __future__ import annotations

from typing import Final

from foreman.audit.findings import Code, Finding, Findings
from foreman.commands.schema import MIGRATIONS
from foreman.errors import DatabaseUnusable, SchemaOlder
from foreman.storage.blueprint import SELECT, blueprint, refuse_foreign
from foreman.storage.reading import Row
from foreman.storage.still import Still

SELECT_VERSION: Final = "PRAGMA user_version"
#: Reads every page; that what is in an index is also in its table it leaves out, which costs several times as much.
CHECK: Final = "PRAGMA quick_check(10)"


def check_schema(still: Still, findings: Findings) -> bool:
    """Whether the tables can be read at all; what is wrong with them is added to the findings.

    Raises DatabaseUnusable if it is no database of foreman's, or one of another version's.
    """
    ((version,),) = still.rows(SELECT_VERSION)
    found, known = set(still.rows(SELECT)), len(MIGRATIONS)
    mine = blueprint(MIGRATIONS)
    if version == known or found == mine:
        if version != known:
            _differs(findings, f"the file says that it has schema {version}, and it has {known}", "sqlite_schema")
        return _compare(found, mine, findings)
    refuse_foreign(still.path, MIGRATIONS, version, found)
    if version > known:
        raise DatabaseUnusable(f"a newer foreman wrote {still.path} (schema {version}, this one knows {known})")
    raise SchemaOlder(f"an older foreman wrote {still.path}: it has schema {version}, and this one audits {known}")


def check_pages(still: Still, findings: Findings) -> None:
    """Have SQLite look at every page."""
    for (words,) in still.rows(CHECK):
        if words != "ok":
            findings.add(Finding(code=Code.FILE_DAMAGED, sentence=f"SQLite finds damage: {words}", table=""))


def _compare(found: set[Row], mine: frozenset[Row], findings: Findings) -> bool:
    if found == mine:
        return True
    there, due = {row[:3]: row[3] for row in found}, {row[:3]: row[3] for row in mine}
    for type_, name, table in sorted(there.keys() | due.keys()):
        key = (type_, name, table)
        if key not in there:
            _differs(findings, f"the {type_} {name} is missing", table)
        elif key not in due:
            _differs(findings, f"there is a {type_} {name} that foreman does not make", table)
        elif there[key] != due[key]:
            _differs(findings, f"the {type_} {name} was changed", table)
    tables = {row for row in mine if row[0] == "table"}
    return tables <= found


def _differs(findings: Findings, sentence: str, table: str) -> None:
    findings.add(Finding(code=Code.SCHEMA_DIFFERS, sentence=sentence, table=table))
