"""How the commands write things for people: states, ages, durations, tables. Asks nobody."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import IO, Final

from rich.console import Console, ConsoleOptions, ConsoleRenderable, JustifyMethod, RenderHook, RenderResult
from rich.segment import Segment
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
#: How long a moment to come may be over when it is read.
JUST_OVER: Final = timedelta(hours=1)
#: How the daemon's sentences write times.
UTC_TIME: Final = re.compile(r"\b(?:(?P<date>[0-9]{4}-[0-9]{2}-[0-9]{2}) )?(?P<time>[0-9]{2}:[0-9]{2}:[0-9]{2}) UTC\b")
MINUTE: Final = 60
HOUR: Final = 3_600
DAY: Final = 86_400


def console(stream: IO[str] | None = None) -> Console:
    """A console on a stream, stdout by default; as wide as its terminal, or else without an end and its blanks."""
    stream = stream or sys.stdout
    if stream.isatty():
        return Console(file=stream, highlight=False)
    endless = Console(file=stream, highlight=False, width=ENDLESS)
    endless.push_render_hook(_Trimming())
    return endless


class _Trimming(RenderHook):
    """Has everything printed without blanks at the ends of its lines."""

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        """Wrap what is printed."""
        return [_Trimmed(each) for each in renderables]


class _Trimmed:
    """Something without the blanks that fill its lines up: tables do that to their width, indented text to ours."""

    def __init__(self, filled: ConsoleRenderable) -> None:
        self._filled = filled

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Its lines."""
        parts = list(console.render(self._filled, options))
        *whole, last = [*Segment.split_lines(parts)] or [[]]
        for line in whole:
            yield from (*_without_end(line), Segment.line())
        goes_on = not parts or not parts[-1].text.endswith("\n")
        yield from last if goes_on else (*_without_end(last), Segment.line())


def _without_end(line: Sequence[Segment]) -> Iterator[Segment]:
    """A line up to its last letter."""
    kept = len("".join(part.text for part in line).rstrip(" "))
    for part in line:
        yield Segment(part.text[:kept], part.style, part.control)
        kept = max(0, kept - len(part.text))


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


def brief(value: float | None) -> str:
    """A duration in four letters, for narrow terminals: `42s`, `3m`, `2h`, `3d`; nothing for None."""
    if value is None:
        return ""
    whole = max(0, round(value))
    for unit, size in (("d", DAY), ("h", HOUR), ("m", MINUTE)):
        if whole >= size:
            return f"{whole // size}{unit}"
    return f"{whole}s"


def ago(at: datetime | None) -> str:
    """How long ago it was."""
    return span(between(at, None))


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


def local(sentence: str) -> str:
    """A sentence of the daemon's, which writes times as `14:02:10 UTC`, with this machine's times instead."""
    return UTC_TIME.sub(_local, sentence)


def _local(found: re.Match[str]) -> str:
    now = datetime.now(UTC)
    try:
        at = datetime.fromisoformat(f"{found['date'] or f'{now:%Y-%m-%d}'}T{found['time']}+00:00")
        if found["date"] is None and at < now - JUST_OVER:
            at += timedelta(days=1)  # what the daemon names is to come, within a day
        return clock(at)
    except (ValueError, OverflowError):
        return found[0]  # no time that there is


def state(name: str) -> Text:
    """A state in its colour."""
    return Text(plain(name), style=COLOURS.get(name, ""))


def eta(low: float | None, expected: float | None, high: float | None) -> str:
    """`3m 10s (2m 5s to 4m)`, or nothing while nobody knows."""
    if expected is None or low is None or high is None:
        return ""
    return span(expected) if span(low) == span(high) else f"{span(expected)} ({span(low)} to {span(high)})"


def table(*columns: str, right: Sequence[str] = (), flexible: str = "", short: str = "") -> Table:
    """A table without lines. Where there is no room for it, the flexible column is wrapped and the short one cut."""
    made = Table(box=None, pad_edge=False, header_style="bold", expand=False)
    for name in columns:
        justify: JustifyMethod = "right" if name in right else "left"
        whole = name not in {flexible, short}
        made.add_column(name, justify=justify, no_wrap=whole, overflow="fold" if name == flexible else "ellipsis")
    return made


def rows(made: Table, lines: Iterable[Sequence[str | Text]]) -> Table:
    """The table with these lines; strings are text, never markup."""
    one_line = [column.overflow == "ellipsis" for column in made.columns]
    for line in lines:
        cells = zip(line, one_line, strict=True)
        made.add_row(*(Text(plain(cell), no_wrap=one) if isinstance(cell, str) else cell for cell, one in cells))
    return made
