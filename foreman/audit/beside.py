"""A second process that makes a pass of its own over the same file. The only module that knows of processes."""

from __future__ import annotations

import gc
import signal
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from foreman.audit.passes import Seen, Told, look
from foreman.audit.share import Share
from foreman.errors import DatabaseUnusable, ForemanError
from foreman.processes import deaf_to_interrupts

#: How long it is given to end by itself once it is told to.
PATIENCE_S: Final = 5.0


class Beside:
    """The process. It ends with the block, whatever ends that: a pass that nobody waits for helps nobody."""

    def __init__(self, path: Path, share: Share) -> None:
        # A fork would take the parent's connections and threads with it.
        context = get_context("spawn")
        self._path = path
        self._here, self._there = context.Pipe(duplex=False)
        self._process = context.Process(target=_run, args=(self._there, path, share), name="foreman audit", daemon=True)
        self._read = 0
        self._seen: Seen | None = None

    def __enter__(self) -> Self:
        with deaf_to_interrupts():
            self._process.start()
        self._there.close()  # so that its end shows
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._here.close()
        self._process.terminate()
        self._process.join(PATIENCE_S)

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
            raise DatabaseUnusable(f"the second process that read {self._path} was ended before it was done") from None
        if isinstance(said, ForemanError):
            raise said
        if isinstance(said, Seen):
            self._seen = said
        else:
            self._read = said


def _run(pipe: Connection, path: Path, share: Share) -> None:
    """The process's own work."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches both, and the parent ends this one
    gc.disable()  # it makes millions of objects and no cycles, and its memory ends with it
    with suppress(BrokenPipeError):  # nobody waits any more
        try:
            seen, _ = look(path, share, (), pipe.send)
            pipe.send(seen)
        except ForemanError as error:
            pipe.send(error)
