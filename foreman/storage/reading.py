"""What a query function looks like, so that read models need not know which connection answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

Row = tuple[Any, ...]


class Read(Protocol):
    """Runs one query and returns all its rows."""

    async def __call__(self, sql: str, parameters: Sequence[Any] = (), /) -> list[Row]:
        """The rows."""
        ...
