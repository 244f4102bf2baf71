"""A second process that makes a pass of its own over the same file."""

from __future__ import annotations

from multiprocessing.connection import Connection
from pathlib import Path

from foreman.audit.passes import Seen, Told, look
from foreman.audit.share import Share
from foreman.errors import ForemanError
from foreman.processes import Spawned


class Beside(Spawned):
    """The process, and what it has said: how far it is, and in the end what it has seen."""

    def __init__(self, path: Path, share: Share) -> None:
        super().__init__("foreman audit", _look, path, share)
        self._read = 0
        self._seen: Seen | None = None

    def poll(self) -> int:
        """How many events it has read, as far as it has said."""
        while self._seen is None and self._here.poll():
            self._hear()
        return self._read

    def result(self, told: Told) -> Seen:
        """What it has come to, once it has. Raises DatabaseUnusable if it could not read, or was ended by somebody."""
        while self._seen is None:
            self._hear()
            told(self._read)
        return self._seen

    def _hear(self) -> None:
        try:
            said: int | Seen | ForemanError = self._here.recv()
        except (EOFError, OSError):
            raise self.ended() from None
        if isinstance(said, ForemanError):
            raise said
        if isinstance(said, Seen):
            self._seen = said
        else:
            self._read = said


def _look(pipe: Connection, path: Path, share: Share) -> None:
    seen, _ = look(path, share, (), pipe.send)
    pipe.send(seen)
