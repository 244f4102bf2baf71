"""Writes the documents that are made from code, or says which are stale (`--check`). Holds no fact of its own."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Mapping
from itertools import groupby
from pathlib import Path
from types import MappingProxyType

from foreman.config import SETTINGS, Setting

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


#: What is generated, and by what.
PAGES: Mapping[str, Callable[[], str]] = MappingProxyType({
    ".env.example": env_example,
    "docs/reference/settings.md": settings_page,
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
