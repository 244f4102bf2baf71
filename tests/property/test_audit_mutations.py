"""Whatever single change is made to a database, the audit finds it; and nothing in one that nobody has changed.

AUDIT_MUTATIONS sets how many are made. Each follows from its seed, which its failure names.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil

import pytest

from foreman.audit import Witness, audit
from foreman.errors import DatabaseUnusable
from tests.mutations import mutate
from tests.rich import make

COUNT = int(os.environ.get("AUDIT_MUTATIONS", "300"))
SEED = os.environ.get("AUDIT_SEED", str(random.SystemRandom().randrange(10**9)))


@pytest.fixture(scope="module")
def rich(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rich")
    asyncio.run(make(folder))
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
        if not is_noticed(copy, seen):
            missed.append(f"{change} (seed {seed})")
    assert missed == []


def is_noticed(path, seen) -> bool:
    """A file whose schema is another's cannot be audited, which nobody takes for a sound one."""
    try:
        return not audit(path, seen).is_clean
    except DatabaseUnusable as error:
        return "foreman wrote" in str(error)
