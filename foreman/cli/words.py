"""How the commands write things for people: states, ages, durations, tables. Asks nobody."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import IO, Final

from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

COLOURS: Final = {
    "queued": "yellow",
    "loading": "magenta",
    "working": "cyan",
    "done": "green",
    "failed": "red",
    "cancelled": "dim",
    "expired": "dim",
}
#: The width of what does not go to a terminal: nothing is cut, for who searches in it.
ENDLESS: Final = 10_000
#: Control characters but for line feed and tab, marks that turn the direction of writing, line separators, halves of
#: characters. Blanks of any width and the joiners within words and emoji are none of these.
OBEYED: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
MINUTE: Final = 60
HOUR: Final = 3_600
DAY: Final = 86_400


def console(stream: IO[str] | None = None) -> Console:
    """A console on a stream, stdout by default; as wide as its terminal, or else without an end."""
    stream = stream or sys.stdout
    return Console(file=stream, highlight=False, width=None if stream.isatty() else ENDLESS, soft_wrap=False)


def talk() -> Console:
    """Where what is no result goes."""
    return Console(stderr=True, highlight=False)


def plain(text: str) -> str:
    """Text on one line, without anything that a terminal would obey."""
    return " ".join(printable(text).split())


def printable(text: str) -> str:
    """Text with its line feeds and tabs, without anything else that a terminal would obey."""
    return OBEYED.sub(" ", text)


def write(text: str) -> None:
    """Write a part of an answer to stdout at once: into a file or a pipe as it is, to a terminal without its orders."""
    sys.stdout.write(printable(text) if sys.stdout.isatty() else text)
    sys.stdout.flush()


def seconds(value: float | None) -> str:
    """`1.2 s`, or nothing."""
    return "" if value is None else f"{value:.1f} s"


def span(value: float | None) -> str:
    """A duration as one says it: `0.8s`, `42s`, `3m 10s`, `2h 5m`, `3d 4h`; nothing for None."""
    if value is None:
        return ""
    if value < 10:
        return f"{max(0.0, value):.1f}s"
    whole = round(value)
    for unit, size, smaller, part in (("d", DAY, "h", HOUR), ("h", HOUR, "m", MINUTE), ("m", MINUTE, "s", 1)):
        if whole >= size:
            return f"{whole // size}{unit} {whole % size // part}{smaller}"
    return f"{whole}s"


def ago(at: datetime | None) -> str:
    """How long ago it was."""
    return "" if at is None else span(max(0.0, (datetime.now(UTC) - at).total_seconds()))


def between(start: datetime | None, end: datetime | None) -> float | None:
    """Seconds from one to the other; until now if there is no end; None if there is no start."""
    if start is None:
        return None
    return max(0.0, ((end or datetime.now(UTC)) - start).total_seconds())


def clock(at: datetime) -> str:
    """A moment in this machine's time zone: `14:02:10`, with its date unless that is today's."""
    local = at.astimezone()
    today = local.date() == datetime.now(UTC).astimezone().date()
    return f"{local:%H:%M:%S}" if today else f"{local:%Y-%m-%d %H:%M:%S}"


def state(name: str) -> Text:
    """A state in its colour."""
    return Text(plain(name), style=COLOURS.get(name, ""))


def eta(low: float | None, expected: float | None, high: float | None) -> str:
    """`3m 10s (2m 5s to 4m)`, or nothing while nobody knows."""
    if expected is None or low is None or high is None:
        return ""
    return span(expected) if span(low) == span(high) else f"{span(expected)} ({span(low)} to {span(high)})"


def table(*columns: str, right: Sequence[str] = (), flexible: str = "") -> Table:
    """A table without lines. Where there is no room for all of it, the flexible column is wrapped."""
    made = Table(box=None, pad_edge=False, header_style="bold", expand=False)
    for name in columns:
        justify: JustifyMethod = "right" if name in right else "left"
        made.add_column(name, justify=justify, no_wrap=name != flexible, overflow="ellipsis")
    return made


def rows(made: Table, lines: Iterable[Sequence[str | Text]]) -> Table:
    """The table with these lines; strings are text, never markup."""
    for line in lines:
        made.add_row(*(Text(plain(cell)) if isinstance(cell, str) else cell for cell in line))
    return made
