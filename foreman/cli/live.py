"""A picture at the terminal that is drawn anew each second, and stays there while the daemon is away."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, NoReturn

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from foreman.cli import words
from foreman.client import UnexpectedAnswer, Unreachable
from foreman.errors import Unavailable

#: However much happens in it: to look costs the daemon something, and nobody reads faster.
REFRESH_S: Final = 1.0


def show_live(look: Callable[[], RenderableType], console: Console, *, screen: bool) -> NoReturn:
    """Show what `look` finds until Ctrl-C; `screen` takes all of the terminal. Raises what its first look raises."""
    shown = found = look()
    moving = console.is_terminal and not console.is_dumb_terminal
    with Live(console=console, auto_refresh=False, screen=screen and moving) as live:
        while True:
            if moving:
                live.update(shown, refresh=True)
            else:
                console.print(shown)
            time.sleep(REFRESH_S)
            try:
                shown = found = look()
            except (Unreachable, UnexpectedAnswer, Unavailable) as error:  # a proxy may speak for it meanwhile
                shown = Group(Text(f"{words.plain(str(error))}; trying again", style="red"), found)
