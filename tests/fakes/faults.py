"""What can be made to go wrong, and the record of the calls it went wrong for. Does nothing by itself."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Self

from tests.fakes import gojson
from tests.fakes.machine import Changes

#: Before anything is answered: `hang` (until released), `reset`, `status`.
#: Within the answer, after `after` lines: the rest. `half_line` ends cleanly, `half_line_reset` does not.
Kind = Literal[
    "hang",
    "reset",
    "status",
    "reset_after",
    "half_line",
    "half_line_reset",
    "garbage",
    "error_line",
    "huge_line",
    "no_done",
    "drip",
]


@dataclass(eq=False)
class Call:
    """One request, as it came and as it ended."""

    number: int
    method: str
    path: str
    headers: list[tuple[str, str]]
    started_at: float = field(default_factory=time.monotonic)
    body: bytes = b""
    kind: str = ""  #: generation, load, unload, embed, or the path
    model: str = ""  #: as the client wrote it
    status: int = 0  #: 0 = no answer was begun
    lines: int = 0  #: lines of a stream sent so far
    finished_at: float = 0.0  #: 0 = still open
    aborted: bool = False  #: the client went away first
    fault: Fault | None = None
    value: Any = None  #: the body as `gojson` decodes it
    unreadable: gojson.GoError | None = None  #: or why it cannot be

    @property
    def json(self) -> Any:
        """The body, decoded."""
        return gojson.plain(gojson.decode(self.body))

    def header(self, name: str) -> str | None:
        """The first value of a header, in any case."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    def classify(self) -> None:
        """Find out what is asked for, without judging the request."""
        try:
            self.value = gojson.decode(self.body)
        except gojson.GoError as error:
            self.unreadable = error
        request = {key.lower(): member for key, member in self.value} if isinstance(self.value, gojson.Pairs) else {}
        name = request.get("model") or request.get("name") or ""
        self.model = name if isinstance(name, str) else ""
        self.kind = self.path
        if self.path in ("/api/embed", "/api/embeddings"):
            self.kind = "embed"
        elif self.path in ("/api/chat", "/api/generate"):
            wanted = request.get("messages" if self.path == "/api/chat" else "prompt")
            unloads = request.get("keep_alive") in (0, "0", "0s", "0m")
            self.kind = "generation" if wanted else "unload" if unloads else "load"


@dataclass(frozen=True)
class Matching:
    """Which calls are meant. `on` is a kind of call, a path, or `*` for all; `model` with or without `:latest`."""

    on: str = "generation"
    model: str | None = None

    def fits(self, call: Call) -> bool:
        """Is `call` meant?"""
        return self.on in ("*", call.kind, call.path) and (
            self.model is None or _short(self.model) == _short(call.model)
        )


def _short(model: str) -> str:
    return model.strip().lower().removesuffix(":latest")


@dataclass(eq=False)
class Fault:
    """One thing that goes wrong, for the next `times` matching calls after `skip` of them (None = for all)."""

    kind: Kind
    matching: Matching = Matching()
    times: int | None = 1
    skip: int = 0
    after: int = 0
    status: int = 500
    body: str = "boom"  #: the text of `status` and `error_line`, or the garbage itself
    size: int = 9_000_000  #: bytes of the huge line
    seconds: float = 0.01  #: between the pieces of a drip
    hit: list[Call] = field(default_factory=list)
    released: asyncio.Event = field(default_factory=asyncio.Event)

    def release(self) -> None:
        """Let those that hang go on, and later ones too."""
        self.released.set()


class Gate:
    """Holds matching calls at one point until released; as a context manager it is released at the end of the block."""

    def __init__(self, matching: Matching, at: Literal["token", "load"], after: int, changes: Changes) -> None:
        self.matching, self.at, self.after = matching, at, after
        self.held: list[Call] = []  #: those waiting here now
        self.seen: list[Call] = []  #: those that ever waited here
        self._changes = changes
        self._open = asyncio.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def release(self) -> None:
        """Let everybody through, now and later."""
        self._open.set()

    @property
    def is_open(self) -> bool:
        """Has it been released?"""
        return self._open.is_set()

    async def reached(self, calls: int = 1, timeout: float = 10.0) -> None:
        """Wait until so many calls are held here."""
        await self._changes.wait_for(lambda: len(self.held) >= calls, timeout)

    async def passed(self, call: Call) -> None:
        """Wait here if it is closed. For the fake's own use."""
        if self._open.is_set():
            return
        self.held.append(call)
        self.seen.append(call)
        self._changes.tell()
        try:
            await self._open.wait()
        finally:
            self.held.remove(call)
            self._changes.tell()


class Faults:
    """The faults and gates that are set."""

    def __init__(self, changes: Changes) -> None:
        self._changes = changes
        self._faults: list[Fault] = []
        self._gates: list[Gate] = []
        self._hanging: list[Fault] = []  # may be used up already, and still hold a call

    def add(self, fault: Fault) -> Fault:
        """Set a fault."""
        self._faults.append(fault)
        if fault.kind == "hang":
            self._hanging.append(fault)
        return fault

    def hold(self, matching: Matching, at: Literal["token", "load"], after: int) -> Gate:
        """Set a gate."""
        gate = Gate(matching, at, after, self._changes)
        self._gates.append(gate)
        return gate

    def take(self, call: Call) -> Fault | None:
        """The first fault meant for `call`, counted as used."""
        for fault in self._faults:
            if not fault.matching.fits(call):
                continue
            if fault.skip:
                fault.skip -= 1
                continue
            fault.times = None if fault.times is None else fault.times - 1
            if fault.times == 0:
                self._faults.remove(fault)
            fault.hit.append(call)
            return fault
        return None

    async def gates(self, call: Call, at: Literal["token", "load"], done: int = 0) -> None:
        """Wait at every gate that stands here."""
        for gate in [gate for gate in self._gates if gate.at == at and gate.after <= done and gate.matching.fits(call)]:
            await gate.passed(call)
        self._gates = [gate for gate in self._gates if not gate.is_open]

    def release(self) -> None:
        """Open all gates, let all that hangs go, and set nothing any more."""
        for gate in self._gates:
            gate.release()
        for fault in self._hanging:
            fault.release()
        self._gates, self._faults, self._hanging = [], [], []
