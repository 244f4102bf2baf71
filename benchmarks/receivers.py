"""Webhook receivers in a process of their own, which tell when each request came. Measures nothing itself.

`receivers()` is for a benchmark; `python -m benchmarks.receivers` is the process that it starts. There, each line of
input, a state and a number, is answered by all that came since the last one, once so many have told of that state.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from benchmarks.harness import ROOT
from tests.fakes.machine import Changes
from tests.fakes.misbehaviour import Behaviour, Wire, answer, hang
from tests.fakes.receiver import Arrival, Receiver

#: Longer than any wait of a benchmark that works.
PATIENCE_S = 120.0
BEHAVIOURS = {"answer": answer(), "hang": hang()}


@dataclass(frozen=True, slots=True)
class Told:
    """One request that reached a receiver, and what it told."""

    at_ns: int
    payload: dict[str, Any]

    @property
    def late_s(self) -> float:
        """Seconds between the event's own time, which is taken before COMMIT, and the arrival of the request."""
        return self.at_ns / 1e9 - datetime.fromisoformat(self.payload["timestamp"]).timestamp()


@dataclass(frozen=True, slots=True)
class Receivers:
    """The process, as a benchmark sees it."""

    urls: list[str]
    process: subprocess.Popen[bytes]

    def wait_for(self, state: str, count: int) -> list[Told]:
        """What came since the last call, once so many requests in all have told of this state."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{state} {count}\n".encode())
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"fewer than {count} requests told of {state!r}")
        return [Told(*told) for told in orjson.loads(line)]


@contextmanager
def receivers(count: int = 1, behaviour: str = "answer") -> Iterator[Receivers]:
    """So many receivers that behave alike, in one process."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.receivers", "--count", str(count), "--behaviour", behaviour],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        yield Receivers(orjson.loads(process.stdout.readline()), process)
    finally:
        process.terminate()
        process.wait()


class Record:
    """What came to any of this process's receivers."""

    def __init__(self) -> None:
        self._states: Counter[str] = Counter()
        self._changes = Changes()
        self._new: list[tuple[int, Arrival]] = []

    def noting(self, receiver: Receiver, then: Behaviour) -> Behaviour:
        """Write down when a request was read whole, then behave."""

        async def act(wire: Wire) -> None:
            # It is the last one: the receiver lets nobody else run between taking it down and this.
            self._new.append((time.time_ns(), receiver.arrivals[-1]))
            self._states[receiver.arrivals[-1].payload["state"]] += 1
            self._changes.tell()
            await then.act(wire)

        return Behaviour(f"noted, {then.name}", act)

    async def until(self, state: str, count: int) -> None:
        """Wait until so many requests have told of this state."""
        await self._changes.wait_for(lambda: self._states[state] >= count, PATIENCE_S)

    def new(self) -> list[tuple[int, Any]]:
        """What came since this was last called."""
        new, self._new = self._new, []
        return [(at_ns, arrival.payload) for at_ns, arrival in new]


async def serve(count: int, behaviour: Behaviour) -> None:
    """Print the URLs, then answer each line of input until its end."""
    stdin, record = asyncio.StreamReader(), Record()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stdin), sys.stdin)
    async with AsyncExitStack() as stack:
        urls = []
        for _ in range(count):
            receiver = await stack.enter_async_context(Receiver())
            receiver.default = record.noting(receiver, behaviour)
            urls.append(receiver.url)
        _say(urls)
        async for line in stdin:
            state, number = line.split()
            await record.until(state.decode(), int(number))
            _say(record.new())


def _say(value: Any) -> None:
    sys.stdout.buffer.write(orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE))
    sys.stdout.buffer.flush()


def main() -> None:
    """Serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1)
    parser.add_argument("--behaviour", choices=sorted(BEHAVIOURS), default="answer")
    arguments = parser.parse_args()
    asyncio.run(serve(arguments.count, BEHAVIOURS[arguments.behaviour]))


if __name__ == "__main__":
    main()
