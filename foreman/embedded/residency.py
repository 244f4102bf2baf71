"""Which models are loaded. One task owns every load and every eviction; all others ask it through a queue.

Must not know requests or HTTP. As in Ollama, loads happen one after another and a victim finishes what it runs;
unlike in Ollama, a victim takes nothing new, so a busy model cannot hold up the load that waits for its place.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from foreman.embedded.requests import FOREVER_S, Refusal
from foreman.embedded.runner import Load, Runner, start

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from foreman.clock import Clock

#: As Ollama's OLLAMA_MAX_QUEUE.
MAX_WAITING = 512
#: How long an unused model stays if no request says otherwise.
DEFAULT_KEEP_ALIVE_S = 300.0


class Resident:
    """A runner with what decides how long it stays."""

    def __init__(self, runner: Runner, keep_alive_s: float) -> None:
        self.runner = runner
        self.keep_alive_s = keep_alive_s
        self.users = 0
        self.used_at = 0.0
        self.expires_at_s = 0.0
        #: Chosen to go: takes no new requests.
        self.leaving = False
        self.idle = asyncio.Event()
        self.timer: asyncio.TimerHandle | None = None


@dataclass(frozen=True, slots=True)
class Want:
    """A request's wish to have a model loaded."""

    load: Load
    granted: asyncio.Future[Resident]


class Residency:
    """The loaded models and the queue of wishes."""

    def __init__(self, clock: Clock, *, max_loaded: int = 1) -> None:
        self._clock = clock
        self._max_loaded = max_loaded
        self._loaded: dict[str, Resident] = {}
        self._orders: asyncio.Queue[Want | Resident] = asyncio.Queue()

    async def run(self) -> None:
        """Serve the queue until cancelled, then end every runner."""
        try:
            while True:
                order = await self._orders.get()
                if isinstance(order, Want):
                    await self._serve(order)
                else:
                    await self._retire(order)
        finally:
            for resident in self._loaded.values():
                await resident.runner.stop()

    @asynccontextmanager
    async def hold(self, load: Load, keep_alive_s: float | None) -> AsyncIterator[Runner]:
        """The loaded model, which stays at least for the length of the block. None keeps its present keep-alive."""
        resident = self._loaded.get(load.model.name)
        if resident is not None and _serves(resident, load):
            resident.users += 1
        else:
            resident = await self._ask(load)
        try:
            if keep_alive_s is not None:
                resident.keep_alive_s = keep_alive_s
            self._rearm(resident)
            yield resident.runner
        finally:
            self._release(resident)

    def unload(self, name: str) -> None:
        """Let the model go as soon as nobody uses it."""
        resident = self._loaded.get(name)
        if resident is not None:
            resident.keep_alive_s = 0.0
            self._rearm(resident)

    def listed(self) -> list[tuple[Runner, float]]:
        """The loaded models and when each expires (Unix seconds), the longest stay first."""
        staying = [one for one in self._loaded.values() if not one.leaving and one.runner.alive]
        return [(one.runner, one.expires_at_s) for one in sorted(staying, key=lambda one: -one.expires_at_s)]

    async def _ask(self, load: Load) -> Resident:
        if self._orders.qsize() >= MAX_WAITING:
            raise Refusal(503, "server busy, please try again.  maximum pending requests exceeded")
        granted: asyncio.Future[Resident] = asyncio.get_running_loop().create_future()
        self._orders.put_nowait(Want(load, granted))
        try:
            return await granted
        except asyncio.CancelledError:
            # Cancelled between the grant and our wake-up: the grant counted us already.
            if granted.done() and not granted.cancelled() and granted.exception() is None:
                self._release(granted.result())
            raise

    async def _serve(self, want: Want) -> None:
        """Bring the wanted model in, after others left if need be. A load goes on when its caller leaves."""
        if want.granted.done():
            return
        name = want.load.model.name
        resident = self._loaded.get(name)
        if resident is None or not _serves(resident, want.load):
            if resident is not None:
                await self._retire(resident)
            while len(self._loaded) >= self._max_loaded:
                # The least recently used idle one, or else the least recently used one.
                await self._retire(min(self._loaded.values(), key=lambda one: (one.users > 0, one.used_at)))
            try:
                resident = Resident(await start(want.load), DEFAULT_KEEP_ALIVE_S)
            except (Refusal, OSError) as error:
                if not want.granted.done():
                    want.granted.set_exception(error if isinstance(error, Refusal) else Refusal(500, str(error)))
                return
            self._loaded[name] = resident
        resident.users += 1
        if want.granted.done():
            self._release(resident)
        else:
            want.granted.set_result(resident)

    async def _retire(self, resident: Resident) -> None:
        """Wait until nobody uses it, then end it."""
        name = resident.runner.load.model.name
        if self._loaded.get(name) is not resident:
            return
        resident.leaving = True
        if resident.users > 0:
            await resident.idle.wait()
        if resident.timer is not None:
            resident.timer.cancel()
        del self._loaded[name]
        await resident.runner.stop()

    def _release(self, resident: Resident) -> None:
        resident.users -= 1
        resident.used_at = self._clock.monotonic()
        self._rearm(resident)
        if resident.users == 0:
            resident.idle.set()

    def _rearm(self, resident: Resident) -> None:
        """Set the end of the stay anew: it counts from the end of the last use."""
        stay = min(resident.keep_alive_s, FOREVER_S)
        resident.expires_at_s = self._clock.now() / 1e6 + stay
        if resident.timer is not None:
            resident.timer.cancel()
        if resident.users > 0:
            resident.idle.clear()
        elif not resident.leaving:
            resident.timer = asyncio.get_running_loop().call_later(stay, self._expire, resident)
            if stay == 0:
                # Gone from `/api/ps` at once, without a turn of the loop in between.
                self._expire(resident)

    def _expire(self, resident: Resident) -> None:
        if resident.users == 0 and not resident.leaving:
            resident.leaving = True
            self._orders.put_nowait(resident)


def _serves(resident: Resident, load: Load) -> bool:
    """Whether this resident can take a request for that load."""
    return resident.runner.load == load and resident.runner.alive and not resident.leaving
