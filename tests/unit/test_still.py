from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from foreman.errors import DatabaseUnusable
from foreman.events.codec import GENESIS
from foreman.events.history import History
from foreman.storage.still import still
from tests.core import opened
from tests.fakes.ollama import FakeOllama
from tests.kit import running


async def test_a_file_is_read_beside_the_daemon_that_writes_it(tmp_path):
    async with FakeOllama(models=["a"]) as fake, running(tmp_path, fake.url) as foreman:
        await foreman.until_finished(await foreman.submit("a"))
        with still(tmp_path / "foreman.db") as file:
            before = History(file).head()
            job_id = await foreman.submit("a")
            await foreman.until_finished(job_id)
            assert History(file).head() == before, "what is read is of one moment"
            assert [event.position for event in History(file).events()] == [*range(1, before[0] + 1)]
            assert list(History(file).of_stream(job_id)) == []
        with still(tmp_path / "foreman.db") as file:
            assert [event.type for event in History(file).of_stream(job_id)][-1] == "job.done"


def test_reading_a_closed_file_leaves_nothing_beside_it(tmp_path):
    path = tmp_path / "foreman.db"
    made = sqlite3.connect(path, isolation_level=None)
    made.execute("PRAGMA journal_mode = WAL")
    made.execute("CREATE TABLE one (number)")
    made.close()
    with still(path) as file:
        assert list(file.rows("SELECT * FROM one")) == []
    assert [found.name for found in tmp_path.iterdir()] == ["foreman.db"]


@pytest.mark.parametrize("name", ["missing.db", ".", "text.db"])
def test_what_is_no_database_is_refused_in_words(tmp_path: Path, name: str):
    (tmp_path / "text.db").write_text("no database at all, only some words that are longer than its header")
    with pytest.raises(DatabaseUnusable, match=r"no such file|folder|not a database"), still(tmp_path / name) as file:
        list(file.rows("SELECT * FROM events"))


async def test_a_link_to_the_file_of_a_running_daemon_shows_what_is_only_in_its_wal(tmp_path):
    link = tmp_path / "link.db"
    link.symlink_to(tmp_path / "foreman.db")
    async with opened(tmp_path) as core:
        await core.submitted()
        with still(link) as file, still(tmp_path / "foreman.db") as same:
            assert History(file).head() == History(same).head() != (0, GENESIS)


def test_a_path_that_cannot_be_looked_at_is_refused_in_words(tmp_path: Path):
    with pytest.raises(DatabaseUnusable, match="File name too long"), still(tmp_path / ("x" * 300)):
        pass
