"""A second process that ends is told of as it was: what went wrong in it stands on stderr, unless nobody listens."""

from __future__ import annotations

from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from foreman.errors import DatabaseUnusable
from foreman.processes import SecondProcess, Spawned


class Watched(Spawned):
    """A process whose end can be looked at."""

    def status(self) -> int | None:
        self._process.join(60)
        return self._process.exitcode


def read(pipe: Connection, path: Path) -> None:
    pipe.send(path.read_text())


def ask(pipe: Connection) -> None:
    while True:
        pipe.send("more" * 10_000)


def size(path: Path) -> int:
    return path.stat().st_size


def test_error_of_the_work_itself_is_shown_and_not_taken_for_a_parent_that_has_gone(tmp_path, capfd):
    with Watched("reader", read, tmp_path / "missing") as process:
        assert process.status() == 1
    assert "FileNotFoundError" in capfd.readouterr().err


def test_error_while_answering_is_shown_too(tmp_path, capfd):
    with SecondProcess("sizes") as process:
        process.begin(size, tmp_path / "missing")
        with pytest.raises(DatabaseUnusable, match="sizes"):
            process.exchange(tmp_path)
    assert "FileNotFoundError" in capfd.readouterr().err


def test_process_that_nobody_listens_to_any_more_ends_without_a_word(capfd):
    with Watched("talker", ask) as process:
        process._here.close()
        assert process.status() == 0
    assert capfd.readouterr().err == ""


def test_process_that_was_never_asked_ends_without_a_word(capfd):
    with SecondProcess("idle") as process:
        process._here.close()
        process._process.join(60)
        assert process._process.exitcode == 0
    assert capfd.readouterr().err == ""
