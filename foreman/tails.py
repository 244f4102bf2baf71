"""The bytes of a running answer: one writer, many readers, in memory only. Knows no event and no route.

A tail holds what the target said in the present run of a job. A new run empties it, so a reader always learns that
what it has seen so far is void.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum


class Ending(StrEnum):
    """How a tail's run ended."""

    COMPLETE = "complete"
    BROKEN = "broken"


@dataclass(slots=True)
class Run:
    """What the target has said in one run: its status line's facts, then bytes in the pieces they came in."""

    number: int
    status: int | None = None
    content_type: str = ""
    chunks: list[bytes] = field(default_factory=list)
    #: Lines so far: as long as the target streams, each is a token.
    lines: int = 0
    ending: Ending | None = None


class Tail:
    """The present run of one job, and those who follow it."""

    def __init__(self) -> None:
        self.run = Run(number=0)
        #: Set once the job has its final state: nothing more will come.
        self.closed = False
        #: What the caller of a blocking call said of itself, to be passed on to the target.
        self.headers: dict[str, str] = {}
        #: The request of a caller that waits for the answer: it is in memory anyway and need not be read back.
        self.request: bytes | None = None
        self._watchers: set[asyncio.Event] = set()

    def restart(self, number: int) -> Run:
        """Begin run `number` (from 1 on) and forget the one before."""
        self.run = Run(number=number)
        self._wake()
        return self.run

    def begin(self, status: int, content_type: str) -> None:
        """The target's status line has come."""
        self.run.status, self.run.content_type = status, content_type
        self._wake()

    def write(self, chunk: bytes) -> None:
        """The target said this."""
        self.run.chunks.append(chunk)
        self.run.lines += chunk.count(b"\n")
        self._wake()

    def end(self, ending: Ending) -> None:
        """The target has said all it will say in this run."""
        self.run.ending = ending
        self._wake()

    def close(self) -> None:
        """The job is over; harmless when repeated."""
        self.closed = True
        self._wake()

    @contextmanager
    def watch(self) -> Iterator[asyncio.Event]:
        """An asyncio.Event that is set at each change; clear it before looking again."""
        wake = asyncio.Event()
        self._watchers.add(wake)
        try:
            yield wake
        finally:
            self._watchers.discard(wake)

    def _wake(self) -> None:
        for wake in self._watchers:
            wake.set()


class Tails:
    """The tails of jobs that run or whose callers wait."""

    def __init__(self) -> None:
        self._tails: dict[str, Tail] = {}

    def open(self, job_id: str) -> Tail:
        """The job's tail, made if need be."""
        return self._tails.setdefault(job_id, Tail())

    def get(self, job_id: str) -> Tail | None:
        """The job's tail if it has one."""
        return self._tails.get(job_id)

    def close(self, job_id: str) -> None:
        """The job is over: those who hold its tail read it to the end, nobody else finds it."""
        tail = self._tails.pop(job_id, None)
        if tail is not None:
            tail.close()

    def __iter__(self) -> Iterator[str]:
        """The ids of jobs that have a tail."""
        return iter(self._tails)

    def __len__(self) -> int:
        return len(self._tails)
