"""What a command that waits says while the daemon is away. Waits for nothing itself: the client does."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

AWAY: Final = "foreman is away; waiting for it (Ctrl-C ends)"


class _Teller(logging.Handler):
    """Hears the client begin to try again."""

    def __init__(self, tell: Callable[[], None]) -> None:
        super().__init__(logging.INFO)
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        """Once for each trouble: how it lasts, the client logs at a lower level."""
        self._tell()


@contextmanager
def told_when_away(tell: Callable[[], None]) -> Iterator[None]:
    """Within this, call it when a connection that was there is gone and the client begins to try again."""
    log, teller = logging.getLogger("foreman.client"), _Teller(tell)
    level_before = log.level
    log.addHandler(teller)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.setLevel(level_before)
        log.removeHandler(teller)
