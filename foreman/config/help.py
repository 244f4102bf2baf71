"""The table of settings as the text that `foreman serve --help` ends with. Reads no environment."""

from __future__ import annotations

import textwrap
from itertools import groupby

from foreman.config.settings import SETTINGS

_INDENT = "  "


def settings_help(width: int = 100) -> str:
    """Every setting, grouped and aligned: `VARIABLE  what it does [default; what is allowed]`."""
    column = len(_INDENT) + max(len(row.variable) for row in SETTINGS) + 2
    groups = []
    for group, rows in groupby(SETTINGS, key=lambda row: row.group):
        lines = [f"{group}:"]
        for row in rows:
            text = f"{row.description} [default {row.default or 'empty'}; {row.allowed}]"
            head = (_INDENT + row.variable).ljust(column)
            lines += textwrap.wrap(
                text,
                width,
                initial_indent=head,
                subsequent_indent=" " * column,
                break_long_words=False,
                break_on_hyphens=False,
            )
        groups.append("\n".join(lines))
    return "\n\n".join(groups) + "\n"
