"""The part of Ollama that would need a GPU: which model is resident, who waits for it, when it leaves. No HTTP here.

Like Ollama's scheduler it has one load queue, served in order by one loader that blocks while it evicts and loads,
and per resident model a number of slots. Requests for a resident load key pass the load queue by.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any

from tests.fakes import names

#: Options that make Ollama load the model anew when they change.
RELOADING = ("num_ctx", "num_batch", "num_gpu", "main_gpu", "use_mmap", "num_thread", "draft_num_predict")


@dataclass
class FakeModel:
    """A model on the fake's disk. Names without a tag get `:latest`."""

    name: str
    digest: str = ""
    size: int = 0
    vram: int = 0
    family: str = "llama"
    parameter_size: str = "8.0B"
    quantization: str = "Q4_K_M"
    capabilities: tuple[str, ...] = ()
    context_length: int = 8192
    embedding_length: int = 8
    modified_at: str = "2026-01-02T03:04:05.678901234Z"
    show: bytes = b""  #: the body of /api/show; empty = made up from the other fields

    def __post_init__(self) -> None:
        self.name = names.parse(self.name).shortest
        self.digest = self.digest or hashlib.sha256(self.name.encode()).hexdigest()
        self.size = self.size or 1_000_000_000 + int(self.digest[:6], 16)
        self.vram = self.vram or self.size
        embeds = "embed" in self.name
        self.capabilities = self.capabilities or (("embedding",) if embeds else ("completion", "tools", "thinking"))

    def details(self) -> dict[str, Any]:
        """`details` as /api/ps and /api/show have it."""
        return {
            "parent_model": "",
            "format": "gguf",
            "family": self.family,
            "families": [self.family],
            "parameter_size": self.parameter_size,
            "quantization_level": self.quantization,
        }


@dataclass(frozen=True)
class LoadKey:
    """What is resident: two requests with equal keys share a load. The name is for reading only."""

    model: str = field(compare=False)
    digest: str = ""
    shift: bool = True
    num_ctx: int | None = None
    num_batch: int | None = None
    num_gpu: int | None = None
    main_gpu: int | None = None
    use_mmap: bool | None = None
    num_thread: int | None = None
    draft_num_predict: int | None = None

    @classmethod
    def of(cls, model: FakeModel, options: dict[str, Any], *, shift: bool = True) -> LoadKey:
        """The key of a request for `model` with these options."""
        chosen = {name: options[name] for name in RELOADING if options.get(name) is not None}
        return cls(model.name, model.digest, shift, **chosen)


@dataclass
class Behaviour:
    """How the machine behaves; every field may be changed while it runs."""

    load_seconds: float = 0.0
    seconds_per_token: float = 0.0
    tokens: int | None = None  #: tokens of every answer; None = as many as the prompt has words
    parallel: int = 1  #: slots of a model loaded from now on
    max_loaded: int = 1
    max_queue: int = 512
    keep_alive: float = 300.0
    version: str = "0.33.0-rc2"
    check_host: bool = True

    def change(self, **settings: Any) -> None:
        """Set some of the fields; KeyError for one that does not exist."""
        known = {setting.name for setting in fields(self)}
        for name, value in settings.items():
            if name not in known:
                raise KeyError(name)
            setattr(self, name, value)


@dataclass(eq=False)
class Resident:
    """A loaded model."""

    model: FakeModel
    key: LoadKey
    slots: asyncio.Semaphore
    keep_alive: float
    expires_at: float = 0.0  #: wall time; far away while it never expires
    users: int = 0
    timer: asyncio.TimerHandle | None = None


class QueueFull(Exception):
    """The load queue has no room."""


class Changes:
    """Lets anybody wait until something about the fake has become true."""

    def __init__(self) -> None:
        self._next = asyncio.Event()

    def tell(self) -> None:
        """Something changed."""
        self._next.set()
        self._next = asyncio.Event()

    async def wait_for(self, true: Callable[[], Any], timeout: float = 10.0) -> None:
        """Return as soon as `true()` is; TimeoutError after `timeout` seconds."""
        async with asyncio.timeout(timeout):
            while not true():
                await self._next.wait()


class Machine:
    """Loads, slots and expiry, and the record of all that."""

    def __init__(self, behaviour: Behaviour, changes: Changes) -> None:
        self.behaviour = behaviour
        self.changes = changes
        self.resident: list[Resident] = []
        self.loads: list[LoadKey] = []  #: in the order in which they began
        self.aborted_loads: list[LoadKey] = []
        self.running: list[LoadKey] = []
        self.max_concurrent = 0
        self.max_concurrent_keys = 0
        self.waiting_to_load = 0
        self._loader = asyncio.Lock()

    @asynccontextmanager
    async def use(
        self, model: FakeModel, key: LoadKey, keep_alive: float | None, on_load: Callable[[], Awaitable[None]]
    ) -> AsyncIterator[Resident]:
        """Have `key` resident for as long as the block lasts. `on_load` is awaited during a load."""
        resident = self._enter(key) or await self._load(model, key, on_load)
        if keep_alive is not None:
            resident.keep_alive = keep_alive
        try:
            yield resident
        finally:
            self._leave(resident)

    @asynccontextmanager
    async def slot(self, resident: Resident) -> AsyncIterator[None]:
        """One of the model's slots: only so many answers are made at once."""
        async with resident.slots:
            self.running.append(resident.key)
            self.max_concurrent = max(self.max_concurrent, len(self.running))
            self.max_concurrent_keys = max(self.max_concurrent_keys, len(set(self.running)))
            self.changes.tell()
            try:
                yield
            finally:
                self.running.remove(resident.key)
                self.changes.tell()

    def unload(self, model: FakeModel) -> None:
        """What an unload request does: the model goes now, or when the last request that uses it ends."""
        for resident in [one for one in self.resident if one.key.digest == model.digest]:
            resident.keep_alive = 0.0
            resident.expires_at = time.time()
            if not resident.users:
                self._drop(resident)

    def _enter(self, key: LoadKey) -> Resident | None:
        for resident in self.resident:
            if resident.key == key:
                resident.users += 1
                if resident.timer is not None:
                    resident.timer.cancel()
                return resident
        return None

    async def _load(self, model: FakeModel, key: LoadKey, on_load: Callable[[], Awaitable[None]]) -> Resident:
        if self.waiting_to_load >= self.behaviour.max_queue:
            raise QueueFull
        self.waiting_to_load += 1
        self.changes.tell()
        try:
            async with self._loader:
                return self._enter(key) or await self._load_now(model, key, on_load)
        finally:
            self.waiting_to_load -= 1
            self.changes.tell()

    async def _load_now(self, model: FakeModel, key: LoadKey, on_load: Callable[[], Awaitable[None]]) -> Resident:
        while victim := self._victim(key):
            victim.keep_alive = 0.0
            if victim.users:
                await self.changes.wait_for(partial(self._is_gone, victim), timeout=3600)
            else:
                self._drop(victim)
        self.loads.append(key)
        self.changes.tell()
        try:
            if self.behaviour.load_seconds:
                await asyncio.sleep(self.behaviour.load_seconds)
            await on_load()
        except BaseException:
            self.aborted_loads.append(key)
            raise
        slots = 1 if "completion" not in model.capabilities else self.behaviour.parallel
        resident = Resident(model, key, asyncio.Semaphore(slots), self.behaviour.keep_alive, users=1)
        resident.expires_at = _wall(resident.keep_alive)
        self.resident.append(resident)
        return resident

    def _is_gone(self, resident: Resident) -> bool:
        return resident not in self.resident

    def _victim(self, key: LoadKey) -> Resident | None:
        """Who has to go before `key` can be loaded: the same model loaded otherwise, else the shortest-lived."""
        for resident in self.resident:
            if resident.key.digest == key.digest:
                return resident
        if len(self.resident) < self.behaviour.max_loaded:
            return None
        return min(self.resident, key=lambda resident: (resident.users > 0, resident.keep_alive))

    def _leave(self, resident: Resident) -> None:
        resident.users -= 1
        if not resident.users and resident in self.resident:
            resident.expires_at = _wall(resident.keep_alive)
            if resident.keep_alive <= 0:
                self._drop(resident)
            elif resident.keep_alive < 1e9:
                loop = asyncio.get_running_loop()
                resident.timer = loop.call_later(resident.keep_alive, self._drop, resident)
        self.changes.tell()

    def _drop(self, resident: Resident) -> None:
        if resident.timer is not None:
            resident.timer.cancel()
        self.resident.remove(resident)
        self.changes.tell()

    def close(self) -> None:
        """Forget what is resident, timers included."""
        for resident in list(self.resident):
            self._drop(resident)


def _wall(seconds: float) -> float:
    return time.time() + min(seconds, 9.2e9)  # Ollama's forever is Go's longest duration, 292 years
