"""Whatever single change is made to a database, the audit finds it; and nothing in one that nobody has changed.

AUDIT_MUTATIONS sets how many are made. Each follows from its seed, which its failure names.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from click.testing import CliRunner

from foreman.audit import Findings, Witness, audit
from foreman.audit.passes import look
from foreman.audit.shape import check_schema
from foreman.audit.share import Share
from foreman.cli import main
from foreman.errors import DatabaseUnusable
from foreman.storage.still import still
from tests.mutations import mutate
from tests.rich import make

COUNT = int(os.environ.get("AUDIT_MUTATIONS", "300"))
SEED = os.environ.get("AUDIT_SEED", str(random.SystemRandom().randrange(10**9)))


@pytest.fixture(scope="module")
def rich(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rich")
    asyncio.run(make(folder))
    # From here on it is one file: a write-ahead log that one copy left would be played into the next one.
    with closing(sqlite3.connect(folder / "foreman.db")) as connection:
        assert connection.execute("PRAGMA journal_mode = DELETE").fetchone() == ("delete",)
    return folder / "foreman.db"


def test_nothing_is_found_where_nothing_was_changed(rich):
    report = audit(rich)
    assert report.findings.kept == []
    assert (report.jobs, report.deliveries) == (22, 22)


def test_every_single_change_is_found(rich, tmp_path):
    whole = audit(rich)
    seen = [Witness(whole.position, whole.hash)]
    copy = tmp_path / "copy.db"
    missed = []
    for number in range(COUNT):
        shutil.copy(rich, copy)
        change = mutate(copy, seed := f"{SEED}:{number}")
        if words := unnoticed(copy, seen):
            missed.append(f"{change} (seed {seed}): {words}")
    assert missed == []


def test_two_processes_find_of_each_change_what_one_finds(rich, tmp_path):
    copy = tmp_path / "copy.db"
    for number in range(COUNT // 3):
        shutil.copy(rich, copy)
        change = mutate(copy, seed := f"{SEED}:{number}")
        one, first, second = (looked_at(copy, share) for share in Share)
        first.take_in(second)
        assert (first.counts, set(first.kept)) == (one.counts, set(one.kept)), f"{change} (seed {seed})"


#: What reads a file, whatever state it is in. The export comes back by `import`.
READING = (
    "audit --db FILE", "audit --db FILE --json",
    "replay --db FILE --into DIR/a", "replay --db FILE --log-only --into DIR/b",
    "replay --db FILE --until 60", "replay --db FILE --until 70 --json", "replay --db FILE --policy fifo",
    "export --db FILE --cloudevents -o DIR/c", "export --db FILE --artifacts -o DIR/d", "import DIR/d --into DIR/e",
    "backup --db FILE DIR/f", "compact --db FILE --before 2027-01-15T08:01:00Z",
)  # fmt: skip


def test_after_any_change_each_command_does_what_it_can_or_says_why_not(rich, tmp_path):
    for number in range(COUNT // 3):
        with TemporaryDirectory(dir=tmp_path) as folder:
            copy = f"{folder}/copy.db"
            shutil.copy(rich, copy)
            change = mutate(Path(copy), seed := f"{SEED}:{number}")
            for command in READING:
                line = command.replace("FILE", copy).replace("DIR", folder)
                ended = CliRunner().invoke(main, line.split())
                by_itself = isinstance(ended.exception, SystemExit | None)
                assert by_itself, f"{command} after {change} (seed {seed}): {ended.exception!r}"


def looked_at(path, share) -> Findings:
    """What one pass finds; nothing in a file whose schema keeps it from being read."""
    findings = Findings()
    with still(path) as file:
        try:
            is_readable = check_schema(file, findings)
        except DatabaseUnusable:
            return findings
    return look(path, share, (), lambda _: None)[0].findings if is_readable else findings


def unnoticed(path, seen) -> str:
    """Why a change was not noticed; nothing if it was.

    A file whose schema is another's cannot be audited, which nobody takes for a sound one.
    """
    try:
        return "it is clean" if audit(path, seen).is_clean else ""
    except DatabaseUnusable as error:
        return "" if "foreman wrote" in str(error) else str(error)
