"""Writes the documents that are made from code, or says which are stale (`--check`). Holds no fact of its own.

The settings page and `.env.example` are made as a whole. The other pages are written by hand but for the parts between
`<!-- made by docs/generate.py: NAME -->` and `<!-- end -->`.
"""

from __future__ import annotations

import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import is_dataclass
from enum import StrEnum
from functools import partial
from itertools import groupby
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, get_args, get_origin

import click

import foreman.client
from foreman import errors
from foreman.api.errors import status_of
from foreman.api.server import ROUTES, Route
from foreman.cli import main as foreman_command
from foreman.client import Client, testing
from foreman.config.row import Setting
from foreman.config.settings import SETTINGS
from foreman.events import types
from foreman.events.daemon import DAEMON_EVENTS, Scheduling
from foreman.fsm.job import TRANSITIONS, diagram
from foreman.metrics.table import BUILD, SOURCES
from foreman.projections.measures import Label, Measure

ROOT = Path(__file__).resolve().parent.parent

_SETTINGS_HEAD = """\
<!-- Made by docs/generate.py from foreman/config; `make docs` writes it anew. -->

# Settings

foreman reads its settings from environment variables, once, at start. A missing or empty variable takes its default.
A value that is not allowed stops the start with a message that lists every fault at once; a `FOREMAN_` variable that
is no setting is warned of and otherwise ignored. The values of secrets are never shown, neither there nor in the log.

- **Durations** are written as in Go: a number and a unit (`ns`, `us`, `ms`, `s`, `m`, `h`), several in a row if need
  be: `30s`, `1h30m`, `500ms`. A bare `0` needs no unit. There are no days: a week is `168h`.
- **Sizes** are whole numbers of bytes, or of `KiB`, `MiB` or `GiB`.
- **Addresses** to listen on have a port always; without a host (`:8080`) foreman listens on every interface, IPv6 and
  IPv4. To be reached from this machine only, write `127.0.0.1:8080`.
- **Tokens** go into their own variables, never into a URL.

The same table, as a file to copy, is [`.env.example`](../../.env.example); `foreman serve --help` shows it too.
"""

_ENV_HEAD = """\
# Settings of foreman, each with its default. Uncomment what you change.
# Made by docs/generate.py from foreman/config; `make docs` writes it anew.
"""


def settings_page() -> str:
    """The reference of all settings."""
    parts = [_SETTINGS_HEAD]
    for group, rows in groupby(SETTINGS, key=lambda row: row.group):
        lines = [f"\n## {group}\n", "| Variable | Default | What it does | Allowed |", "|---|---|---|---|"]
        lines += [_table_line(row) for row in rows]
        parts.append("\n".join(lines) + "\n")
    return "".join(parts)


def _table_line(row: Setting) -> str:
    default = f"`{row.default}`" if row.default else "empty"
    secret = " A secret." if row.secret else ""
    # Bare angle brackets would be taken for HTML.
    cells = [text.replace("|", "\\|").replace("<", "&lt;") for text in (row.description + secret, row.allowed)]
    return f"| `{row.variable}` | {default} | {cells[0]} | {cells[1]} |"


def env_example() -> str:
    """A file to copy to `.env`: every setting, commented out, at its default."""
    parts = [_ENV_HEAD]
    for group, rows in groupby(SETTINGS, key=lambda row: row.group):
        parts.append(f"\n# --- {group} ---\n")
        for row in rows:
            comment = textwrap.wrap(f"{row.description} Allowed: {row.allowed}.", 110, break_on_hyphens=False)
            parts.append("\n" + "".join(f"# {line}\n" for line in comment) + f"#{row.variable}={row.default}\n")
    return "".join(parts)


def routes() -> str:
    """The table of routes, each with what its handler says of itself."""
    rows = [(", ".join(route.methods), f"`{route.label}`", _route_summary(route)) for route in ROUTES]
    return _table(("Method", "Path", "What it does"), rows)


def _route_summary(route: Route) -> str:
    """The handler's docstring without the route's name; if there is nothing else in it, its module's."""
    said = _without_route(inspect.getdoc(route.handler) or "")
    return said or _without_route(inspect.getdoc(inspect.getmodule(route.handler)) or "")


def _without_route(text: str) -> str:
    text = _sentence(text.partition("\n\n")[0]).partition(" Raises ")[0]
    text = re.sub(r"^`[^`]+`(?:(?:,| and) `[^`]+`)*(?:[:.] ?|, )", "", text)
    return text[:1].upper() + text[1:]


def errors_table() -> str:
    """Every error with its code, status, meaning and hint, in the order of their tree."""
    found = [each for each in vars(errors).values() if inspect.isclass(each) and issubclass(each, errors.ForemanError)]
    rows = [
        (f"`{error.code}`", str(int(status_of(error))), f"`{error.__name__}`", _sentence(error.__doc__), error.hint)
        for error in found
    ]
    return _table(("Code", "HTTP status", "Class", "Meaning", "What to do"), rows)


def state_diagram() -> str:
    """The state machine as Mermaid draws it."""
    return f"```mermaid\n{diagram()}```\n"


def state_table() -> str:
    """The state machine as the table it is."""
    rows = [
        (f"`{event.type}`", ", ".join(f"`{state}`" for state in sources), f"`{dest}`")
        for event, sources, dest in TRANSITIONS
    ]
    return _table(("Event", "May follow in state", "Leads to"), rows)


def events_of(kinds: Iterable[type[types.Event]]) -> str:
    """Each event: when it is recorded, and its fields."""
    return "\n".join(f"### `{kind.type}`\n\n{_sentence(kind.__doc__)}\n\n{_fields(kind)}" for kind in kinds)


def event_parts() -> str:
    """What events are made of: the words and the small objects in their fields."""
    enums = [each for each in vars(types).values() if inspect.isclass(each) and issubclass(each, StrEnum)]
    parts = [f"### {each.__name__}\n\n{_sentence(each.__doc__)}\n" for each in enums if each is not StrEnum]
    values = [", ".join(f"`{value}`" for value in each) for each in enums if each is not StrEnum]
    words = [f"{part}\nOne of {listed}.\n" for part, listed in zip(parts, values, strict=True)]
    objects = (types.ArtifactRef, types.IdempotencyKey, types.Webhook, Scheduling)
    return "\n".join(
        words + [f"### {each.__name__}\n\n{_sentence(each.__doc__)}\n\n{_fields(each)}" for each in objects]
    )


def envelope() -> str:
    """What the log keeps with each event."""
    return _fields(types.Recorded)


def _fields(kind: type) -> str:
    """A table of a dataclass's fields, their meanings taken from the `#:` comments above them."""
    return _table(("Field", "Type", "Meaning"), _field_rows(inspect.getsource(kind)))


def _field_rows(source: str) -> Iterator[tuple[str, str, str]]:
    said: list[str] = []
    for line in source.splitlines():
        if comment := re.fullmatch(r"    #: (.*)", line):
            said.append(comment[1])
        elif (field := re.fullmatch(r"    (\w+): ([^=]+?)(?: = .+)?", line)) and not field[2].startswith("ClassVar"):
            named = vars(types).get(field[2].partition(" ")[0])
            meaning = " ".join(said) or (_sentence(inspect.getdoc(named)) if inspect.isclass(named) else "")
            kind = re.sub(r"[A-Z]\w+", _plain, field[2])
            yield f"`{field[1]}`", f"`{kind}`", meaning
            said = []
        else:
            said = []


def _plain(name: re.Match[str]) -> str:
    """A type without the bounds that only the code needs to know."""
    named = vars(types).get(name[0])
    return str(get_args(named)[0].__name__) if get_origin(named) is Annotated else name[0]


def metrics() -> str:
    """Every metric, by where it comes from."""
    head = ("Metric", "Type", "Labels", "Meaning")
    return "\n".join(f"## {source}\n\n{_table(head, map(_metric_row, rows))}" for source, rows in SOURCES.items())


def _metric_row(measure: Measure) -> tuple[str, ...]:
    labels = ", ".join(f"`{label.name}`{_values(measure, label)}" for label in measure.labels)
    buckets = f" Buckets: {', '.join(f'{bound:g}' for bound in measure.buckets)}." if measure.buckets else ""
    return f"`{measure.name}`", measure.kind.value, labels, measure.help + buckets


def _values(measure: Measure, label: Label) -> str:
    # What a build is made of differs from machine to machine.
    fixed = () if measure is BUILD else label.values or ()
    return f" ({', '.join(fixed)})" if fixed else ""


def commands() -> str:
    """The help of each verb, without the settings: they have a page of their own."""
    top = click.Context(foreman_command, info_name="foreman", **foreman_command.context_settings)
    parts = [_help(foreman_command, top)]
    for name in foreman_command.list_commands(top):
        command = foreman_command.get_command(top, name)
        assert command is not None
        context = click.Context(command, info_name=name, parent=top)
        parts.append(f"## foreman {name}\n\n{_help(command, context)}")
    return "\n".join(parts)


def client_methods() -> str:
    """Each method of the client: its signature and what it says of itself."""
    found = {name: value for name, value in vars(Client).items() if callable(value) and not name.startswith("_")}
    return "\n".join(f"### {name}\n\n{_signature(name, method)}\n{_said(method)}\n" for name, method in found.items())


class _Bare(str):
    """An annotation, shown without quotes."""

    __slots__ = ()
    __repr__ = str.__str__


def _signature(name: str, method: Callable[..., object]) -> str:
    """As one would write it, a parameter a line if it would be too long else."""
    signature = inspect.signature(method)
    given = [
        parameter.replace(annotation=_Bare(parameter.annotation))
        for parameter in signature.parameters.values()
        if parameter.name != "self"
    ]
    text = str(signature.replace(parameters=given, return_annotation=_Bare(signature.return_annotation)))
    if len(name + text) > 100:
        inner, _, returned = text.removeprefix("(").rpartition(") -> ")
        lines = re.sub(r", (?=\*|\w+: )", ",\n    ", inner)
        text = f"(\n    {lines},\n) -> {returned}"
    return f"```text\n{name}{text}\n```\n"


def client_types() -> str:
    """What the client's methods take and return: each type with its members."""
    kinds = [kind for kind in _public_classes() if is_dataclass(kind)]
    return "\n".join(f"### {kind.__name__}\n\n{_said(kind)}\n\n```text\n{_members(kind)}```\n" for kind in kinds)


def _members(kind: type) -> str:
    """A dataclass's members as they are written, with what is said above them; and its properties."""
    lines = []
    for line in inspect.getsource(kind).splitlines():
        if comment := re.fullmatch(r"    #: (.*)", line):
            lines.append(f"# {comment[1]}")
        elif member := re.fullmatch(r"    (\w+: [^=]+?)(?: = .+)?", line):
            lines.append(member[1])
    methods = [(name, value) for name, value in vars(kind).items() if not name.startswith("_") and name != "of"]
    lines += [f"{name}  # {_said(value)}" for name, value in methods if isinstance(value, property)]
    lines += [f"{name}()  # {_said(value)}" for name, value in methods if inspect.isfunction(value)]
    return "".join(f"{line}\n" for line in lines)


def client_errors() -> str:
    """The errors that only a client raises."""
    kinds = [kind for kind in _public_classes() if issubclass(kind, errors.ForemanError)]
    own = [kind for kind in kinds if kind.__module__ != errors.__name__]
    rows = [(f"`{kind.__name__}`", f"`{kind.code}`", _sentence(kind.__doc__), kind.hint) for kind in own]
    return _table(("Class", "Code", "Meaning", "What to do"), rows)


def _public_classes() -> list[type]:
    found = [getattr(foreman.client, name) for name in foreman.client.__all__]
    return [each for each in found if inspect.isclass(each)]


def client_testing() -> str:
    """The receiver for tests."""
    kind = testing.WebhookReceiver
    methods = [(name, value) for name, value in vars(kind).items() if not name.startswith("_")]
    rows = [(f"`{name}`", _sentence(inspect.getdoc(value))) for name, value in methods]
    return f"{_said(kind)}\n\n{_table(('Name', 'What it is'), rows)}"


def _said(thing: object) -> str:
    return inspect.getdoc(thing) or ""


def _help(command: click.Command, context: click.Context) -> str:
    formatter = click.HelpFormatter(width=100)
    command.format_usage(context, formatter)
    command.format_help_text(context, formatter)
    command.format_options(context, formatter)
    return f"```text\n{formatter.getvalue()}```\n"


def _sentence(text: str | None) -> str:
    return " ".join((text or "").split())


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = list(head)
    lines = [" | ".join(cell.replace("|", "\\|") for cell in row) for row in rows]
    return "".join([f"| {' | '.join(head)} |\n", "|---" * len(head), "|\n", *(f"| {line} |\n" for line in lines)])


def _page(name: str, parts: Mapping[str, Callable[[], str]]) -> str:
    """A page written by hand, with its made parts made anew."""
    text = _content(ROOT / name)
    for part, render in parts.items():
        pattern = re.compile(rf"(<!-- made by docs/generate\.py: {part} -->\n).*?(<!-- end -->)", re.DOTALL)
        if not pattern.search(text):
            raise LookupError(f"{name} has no place for {part}")
        # A function, since a text would have its backslashes taken for group numbers.
        text = pattern.sub(partial(_between, f"\n{render()}\n"), text)
    return text


def _between(content: str, marks: re.Match[str]) -> str:
    return marks[1] + content + marks[2]


#: The parts that are made in pages written by hand.
_PARTS: Mapping[str, Mapping[str, Callable[[], str]]] = MappingProxyType({
    "docs/reference/api.md": {"routes": routes},
    "docs/reference/cli.md": {"commands": commands},
    "docs/reference/client.md": {
        "methods": client_methods,
        "types": client_types,
        "errors": client_errors,
        "testing": client_testing,
    },
    "docs/reference/errors.md": {"errors": errors_table},
    "docs/reference/events.md": {
        "envelope": envelope,
        "job events": partial(events_of, types.JOB_EVENTS),
        "daemon events": partial(events_of, DAEMON_EVENTS),
        "parts": event_parts,
    },
    "docs/reference/metrics.md": {"metrics": metrics},
    "docs/reference/state-machine.md": {"diagram": state_diagram, "table": state_table},
})  # fmt: skip

#: What is generated, and by what.
PAGES: Mapping[str, Callable[[], str]] = MappingProxyType({
    ".env.example": env_example,
    "docs/reference/settings.md": settings_page,
    **{name: partial(_page, name, parts) for name, parts in _PARTS.items()},
})  # fmt: skip


def stale() -> list[str]:
    """The generated files that do not say what the code says."""
    return [name for name, render in PAGES.items() if _content(ROOT / name) != render()]


def _content(path: Path) -> str:
    return path.read_text("utf-8") if path.exists() else ""


def main(arguments: list[str]) -> int:
    """Write what is stale; with `--check` only name it, and fail."""
    names = stale()
    if arguments == ["--check"]:
        for name in names:
            print(f"{name} is stale: run `make docs`", file=sys.stderr)
        return 1 if names else 0
    for name in names:
        path = ROOT / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(PAGES[name](), "utf-8")
        print(f"wrote {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
