"""A webhook receiver to test against: a real HTTP/1.1 server that records what arrives and misbehaves as it is told.

Owns the record of arrivals, the choice of behaviour and the audit of the record. Must not know foreman: it checks no
signature, and reads no more of a payload than `job_id`, `version` and `state`.

::

    async with Receiver() as receiver:
        receiver.behave(answer(503), reset())  # the next two requests; all later ones get 200
        ...  # let the program under test deliver to receiver.url
        await receiver.wait_for(3)
        assert [arrival.behaviour for arrival in receiver.arrivals] == [answer(503), reset(), answer()]

`python -m tests.fakes.receiver --behaviour drip` runs it as a process of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import json
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from ssl import SSLContext
from types import TracebackType
from typing import Any, Self

from tests.fakes.machine import Changes
from tests.fakes.misbehaviour import (
    HOSTILE,
    Behaviour,
    Wire,
    answer,
    close_at_once,
    drip,
    drip_header,
    endless,
    garbage,
    gone,
    gzip_bomb,
    hang,
    hold,
    redirect,
    refuse_reading,
    reset,
    reset_midway,
    set_cookie,
    too_many,
    wrong_length,
)

__all__ = [
    "HOSTILE",
    "Arrival",
    "Behaviour",
    "Receiver",
    "answer",
    "close_at_once",
    "drip",
    "drip_header",
    "endless",
    "garbage",
    "gone",
    "gzip_bomb",
    "hang",
    "hold",
    "redirect",
    "refuse_reading",
    "reset",
    "reset_midway",
    "set_cookie",
    "too_many",
    "wrong_length",
]

#: Long enough for a slow machine; a test that gets here has failed.
PATIENCE_S = 20.0


@dataclass(frozen=True)
class Arrival:
    """One request, read whole."""

    number: int  #: from 1
    at: float  #: monotonic
    method: str
    path: str
    headers: dict[str, str]  #: names in lower case; values of a repeated header with a comma between them
    body: bytes = field(repr=False)
    behaviour: Behaviour  #: what was then done to it

    @functools.cached_property
    def payload(self) -> Any:
        """The body as JSON; None for no body."""
        return json.loads(self.body) if self.body else None

    @property
    def id(self) -> str | None:
        """The same for every attempt to deliver the same event."""
        return self.headers.get("webhook-id")

    @property
    def event(self) -> tuple[str, int]:
        """The event it tells of: job and version."""
        return self.payload["job_id"], self.payload["version"]


class Receiver:
    """The server, its record of what arrived, and the means to choose how it behaves.

    What a request meets is, first of all that apply: what `by_job` says of its job, the next in the queue of
    `behave`, the draw of `at_random`, `default`. `port=0` takes any free port and keeps it for the receiver's life.
    """

    def __init__(self, port: int = 0, host: str = "127.0.0.1", ssl: SSLContext | None = None) -> None:
        self.port = port
        self.default = answer()
        self.arrivals: list[Arrival] = []
        self.connections = 0  #: ever accepted
        self.most_open = 0  #: connections at once
        self._host, self._ssl = host, ssl
        self._queue: deque[Behaviour] = deque()
        self._of_jobs: dict[str, Behaviour] = {}
        self._draw: Callable[[], Behaviour] | None = None
        self._changes = Changes()
        self._wires: dict[asyncio.Task[None], Wire] = {}
        self._faults: list[BaseException] = []  # of its own code: a test must not pass over them
        self._listener: socket.socket | None = None

    async def __aenter__(self) -> Self:
        await self.come_back()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.go_away()
        if self._faults and error is None:
            raise self._faults[0]

    @property
    def url(self) -> str:
        """Where it listens."""
        return self.url_for(self._host)

    def url_for(self, host: str, path: str = "/hook") -> str:
        """The same receiver under another name, or another path of it."""
        shown = f"[{host}]" if ":" in host else host
        return f"{'https' if self._ssl else 'http'}://{shown}:{self.port}{path}"

    @property
    def open(self) -> int:
        """The connections that are open now."""
        return len(self._wires)

    def behave(self, *behaviours: Behaviour) -> None:
        """Queue behaviours for the next requests, one for each, in the order in which they arrive."""
        self._queue.extend(behaviours)

    def by_job(self, job_id: str, behaviour: Behaviour) -> None:
        """Behave so to every request that tells of this job."""
        self._of_jobs[job_id] = behaviour

    def at_random(self, random: Random, weights: Mapping[Behaviour, float] = HOSTILE) -> None:
        """Draw the behaviour of each request, by weight, instead of the default."""
        assert not any(behaviour.unread for behaviour in weights), "a draw is made for a request that has been read"
        self._draw = lambda: random.choices(list(weights), list(weights.values()))[0]

    async def wait_for(self, count: int) -> list[Arrival]:
        """Wait until so many requests have arrived, and return them all."""
        await self.until(lambda: len(self.arrivals) >= count)
        return self.arrivals

    async def until(self, true: Callable[[], Any]) -> None:
        """Return as soon as `true()` is. It is asked again when a request arrives and a connection begins or ends."""
        try:
            await self._changes.wait_for(true, PATIENCE_S)
        except TimeoutError:
            raise TimeoutError(f"{len(self.arrivals)} arrivals, the last of them {self.arrivals[-3:]}") from None

    async def go_away(self) -> None:
        """Refuse new connections and break the open ones, like a receiver that has died."""
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None
        broken = dict(self._wires)
        for task, wire in broken.items():
            with contextlib.suppress(OSError):  # the client was faster
                wire.socket.shutdown(socket.SHUT_RDWR)
            if wire.ready:
                task.cancel()
        await asyncio.gather(*broken, return_exceptions=True)

    async def come_back(self) -> None:
        """Listen, on the same port as before."""
        if self._listener is None:
            family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
            self._listener = socket.create_server((self._host, self.port), family=family, backlog=1024)
            self._listener.setblocking(False)
            self.port = self._listener.getsockname()[1]
            # Not asyncio.start_server: closing that leaks the connections it has accepted but not yet handed over.
            asyncio.get_running_loop().add_reader(self._listener, self._accept, self._listener)

    def first_arrivals(self, job_id: str) -> list[tuple[int, str]]:
        """Version and state of a job's events, each once, in the order in which they first arrived."""
        told = [arrival.payload for arrival in self.arrivals if arrival.event[0] == job_id]
        return list(dict.fromkeys((payload["version"], payload["state"]) for payload in told))

    def repeats(self) -> list[Arrival]:
        """Those that told of an event which an earlier one had told of."""
        first = {arrival.event: arrival for arrival in reversed(self.arrivals)}
        return [arrival for arrival in self.arrivals if first[arrival.event] is not arrival]

    def ids_are_consistent(self) -> list[str]:
        """What is wrong with the ids, in words: each event must have one of its own, the same whenever it arrives."""
        faults = [f"arrival {arrival.number} has no webhook-id" for arrival in self.arrivals if not arrival.id]
        pairs = list(dict.fromkeys((arrival.id, arrival.event) for arrival in self.arrivals if arrival.id))
        events: dict[str, tuple[str, int]] = {}
        ids: dict[tuple[str, int], str] = {}
        for known, event in pairs:
            if events.setdefault(known, event) != event:
                faults.append(f"{known} is the id of {events[known]} and of {event}")
            if ids.setdefault(event, known) != known:
                faults.append(f"{event} has the ids {ids[event]} and {known}")
        return faults

    def _accept(self, listener: socket.socket) -> None:
        try:
            accepted, _ = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return  # the client left before
        accepted.setblocking(False)
        wire = Wire(accepted)
        task = asyncio.get_running_loop().create_task(self._connection(wire))
        self._wires[task] = wire
        self.connections += 1
        self.most_open = max(self.most_open, self.open)
        task.add_done_callback(self._ended)
        self._changes.tell()

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._wires[task]
        if not task.cancelled() and (fault := task.exception()) is not None:
            self._faults.append(fault)
        self._changes.tell()

    async def _connection(self, wire: Wire) -> None:
        with contextlib.suppress(OSError, EOFError):  # the client left
            await wire.begin(self._ssl)
            try:
                if self._listener is not None:  # else it has gone away meanwhile
                    await self._converse(wire)
                    await wire.end()
            finally:
                await wire.end(at_once=True)

    async def _converse(self, wire: Wire) -> None:
        begun = b""
        while True:
            behaviour = self._instead_of_reading()
            if behaviour is None:
                try:
                    request = await wire.request(begun)
                except (ValueError, asyncio.LimitOverrunError):
                    return await wire.answer(400)
                behaviour = self._arrived(*request)
            wire.lasting = False
            await behaviour.act(wire)
            if not wire.lasting:
                return None
            # An idle connection is behaved to only when its next request begins: it may be that none comes.
            begun = await wire.reader.readexactly(1)

    def _instead_of_reading(self) -> Behaviour | None:
        if self._queue:
            return self._queue.popleft() if self._queue[0].unread else None
        return self.default if self.default.unread and self._draw is None else None

    def _arrived(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Behaviour:
        number, at, behaviour = len(self.arrivals) + 1, time.monotonic(), self._chosen(body)
        self.arrivals.append(Arrival(number, at, method, path, headers, body, behaviour))
        self._changes.tell()
        return behaviour

    def _chosen(self, body: bytes) -> Behaviour:
        with contextlib.suppress(KeyError, TypeError, ValueError):  # it tells of no job, or of none with a rule
            return self._of_jobs[json.loads(body)["job_id"]]
        if self._queue:
            return self._queue.popleft()
        return self._draw() if self._draw is not None else self.default


_MADE: tuple[Callable[[], Behaviour], ...] = (
    *(answer, hang, refuse_reading, drip, drip_header, reset, reset_midway, endless),
    *(wrong_length, garbage, gone, gzip_bomb, set_cookie, close_at_once),
)
_NAMED = {make.__name__: make for make in _MADE}


def main(arguments: list[str] | None = None) -> None:
    """Run as a process of its own: one line with the URL when ready, then serve until stdin is closed."""
    parser = argparse.ArgumentParser(prog="python -m tests.fakes.receiver", description="A webhook receiver.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--behaviour", choices=sorted(_NAMED), default="answer")
    asyncio.run(_serve(parser.parse_args(arguments)))


async def _serve(chosen: argparse.Namespace) -> None:
    async with Receiver(chosen.port, chosen.host) as receiver:
        receiver.default = _NAMED[chosen.behaviour]()
        sys.stdout.write(receiver.url + "\n")
        sys.stdout.flush()
        stdin = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stdin), sys.stdin)
        await stdin.read()


if __name__ == "__main__":
    main()
