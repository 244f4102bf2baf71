"""What the commands that work on a database file have in common: which file, their end if there is none, and times."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import click

from foreman.cli.daemon import NOT_TRIED, end
from foreman.clock import Micros, SystemClock
from foreman.durations import duration_s
from foreman.errors import DatabaseBroke, DatabaseUnusable

DAYS: Final = re.compile(r"(\d{1,5})d")
DAY_S: Final = 24 * 3600


def works_on_file(command: Callable[..., Any]) -> Callable[..., Any]:
    """Ends a command by its own status if the database file cannot be opened: nothing was tried then."""

    @functools.wraps(command)
    def working(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except DatabaseBroke:
            raise
        except DatabaseUnusable as error:
            end(error, NOT_TRIED, as_json=bool(kwargs.get("as_json")))

    return working


def database_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds `--db`, and `works_on_file`."""
    return click.option(
        "--db",
        "database",
        type=click.Path(path_type=Path, dir_okay=False),
        envvar="FOREMAN_DB_PATH",
        show_envvar=True,
        default=Path("foreman.db"),
        show_default=True,
        help="The database file.",
    )(works_on_file(command))


class Moment(click.ParamType[Micros]):
    """A date, a time, or how long ago; a microsecond of the epoch."""

    name = "moment"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Micros:
        """`30d` and `36h` are so long ago; `2026-11-01` and `2026-11-01T14:02` are of this machine's time zone."""
        text = str(value).strip()
        now = SystemClock().now()
        try:
            if days := DAYS.fullmatch(text):
                return Micros(now - int(days[1]) * DAY_S * 1_000_000)
            if text[:1].isdigit() and text[-1:].isalpha() and "T" not in text:
                return Micros(now - round(duration_s(text) * 1_000_000))
            return Micros(round(datetime.fromisoformat(text).astimezone().timestamp() * 1_000_000))
        except (ValueError, OverflowError, OSError):
            self.fail(
                f"{text!r} is no date (2026-11-01), no time (2026-11-01T14:02), and no age (30d, 36h)", param, ctx
            )
