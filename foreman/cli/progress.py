"""A bar for what takes long, on a terminal's stderr and nowhere else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn


class Bar:
    """A progress bar."""

    def __init__(self, shown: Progress, what: str, total: int | None) -> None:
        self._shown = shown
        self._task = shown.add_task(what, total=total or None)

    def begin(self, what: str) -> None:
        """Something else is to be done now."""
        self._shown.reset(self._task, description=what, total=None)

    def reach(self, done: int, total: int | None = None) -> None:
        """So many are done, of so many if that was not known."""
        self._shown.update(self._task, completed=done, total=total)

    def add(self, more: int) -> None:
        """So many more are done."""
        self._shown.advance(self._task, more)


@contextmanager
def progress(what: str, total: int | None = None) -> Iterator[Bar]:
    """A bar on a terminal's stderr, and nothing elsewhere."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as shown:
        yield Bar(shown, what, total)
