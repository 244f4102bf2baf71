"""What the target has: its models, what it holds in memory, and whether it answers. Polled, never asked per request.

While the target is away the last known lists stay, marked as of when they were true. While it is wedged they are polled
as ever, but it is away until a probe has had a token.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Final

import orjson

from foreman.clock import Clock, Micros, seconds_between
from foreman.errors import TargetError, TargetRefused
from foreman.target.client import Target
from foreman.target.names import canonical
from foreman.target.wedge import Question, Wedge

#: A poll that takes longer says that the target is not well.
POLL_TIMEOUT_S: Final = 10.0
#: While the target is away: how soon to look again, at most.
AWAY_POLL_S: Final = (0.5, 1.0, 2.0, 5.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model of the target's."""

    name: str
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """Whether the target answers, and since when not."""

    #: None until the first poll has ended one way or the other.
    up: bool | None = None
    error: str = ""
    #: When it was first seen to be away.
    away_since: Micros | None = None
    #: It takes calls and does not answer them, since then.
    stalled_since: Micros | None = None
    last_success: Micros | None = None
    version: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """What the target said at one poll, verbatim and read."""

    tags: bytes = b'{"models":[]}'
    ps: bytes = b'{"models":[]}'
    models: Mapping[str, Model] = field(default_factory=dict)
    #: The digests in memory, longest-lived first.
    loaded: tuple[str, ...] = ()


#: Told of each change of health, before and after; awaited before the next poll.
OnChange = Callable[[Health, Health], Awaitable[None]]
#: Told of each listing and when its poll began (monotonic seconds).
OnListing = Callable[[Listing, float], None]


class Inventory:
    """The last known state of the target. `run()` is a task of the daemon's."""

    def __init__(self, target: Target, clock: Clock, poll_interval_s: float, probe_within_s: float = 0) -> None:
        """`probe_within_s` is what a probe of a wedged target may take; 0 leaves it to `Wedge`."""
        self._target = target
        self._clock = clock
        self._interval_s = poll_interval_s
        self.wedge = Wedge(target, clock, probe_within_s)
        self.health = Health()
        self.listing = Listing()
        self.on_change: list[OnChange] = []
        self.on_listing: list[OnListing] = []
        self._wanted = asyncio.Event()
        self._polling: asyncio.Task[None] | None = None
        self._probing: asyncio.Task[None] | None = None
        self._failures = 0
        #: Changes at the target that foreman knows of, and how many of them the listing is sure to show.
        self._changes = self._listed = 0

    @property
    def known(self) -> bool:
        """Whether the target has ever answered: without that, no model can be said to be missing."""
        return self.health.last_success is not None

    @property
    def up(self) -> bool:
        """Whether the target answered last."""
        return self.health.up is True

    def find(self, name: str) -> Model | None:
        """The model of that name, however it is spelt."""
        return self.listing.models.get(canonical(name))

    def name_of(self, digest: str) -> str | None:
        """The name of the model with that digest."""
        return next((model.name for model in self.listing.models.values() if model.digest == digest), None)

    async def run(self) -> None:
        """Poll for ever; sooner when somebody asks, or while the target is away. Probe while it is wedged."""
        try:
            while True:
                await self.refresh()
                # A target that does not even give its lists need not be asked for a token.
                if self.wedge.since is not None and not self._failures and self._probing is None:
                    self._probing = asyncio.create_task(self._probe(), name="inventory probe")
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._pause_s()):
                        await self._wanted.wait()
                self._wanted.clear()
        finally:
            for task in (self._polling, self._probing):
                if task is not None:
                    task.cancel()

    async def refresh(self) -> None:
        """Have one poll made now; callers that come while it is under way share it."""
        # A poll that is over may not have been put away yet; waiting for it would not wait.
        if self._polling is None or self._polling.done():
            self._polling = asyncio.create_task(self._poll(), name="inventory poll")
            self._polling.add_done_callback(self._poll_ended)
        # A caller that leaves must not take the poll of the others with it.
        await asyncio.shield(self._polling)

    async def catch_up(self, within_s: float) -> None:
        """Wait for a listing that is younger than every change foreman knows of, but no longer than this."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while self.up and self._listed < self._changes:
                    await self.refresh()

    def poll_soon(self) -> None:
        """Something has changed at the target, or a call to it has failed: look again without waiting for it."""
        self._changes += 1
        self._wanted.set()

    async def report_unreachable(self, error: str) -> None:
        """A call could not reach the target: it is away until a poll says otherwise."""
        if self.health.up is not False:
            await self._become_away(error)

    async def report_stalled(self, question: Question, error: str) -> None:
        """A call had no answer for too long. The second in a row says that the target is away, whatever it lists."""
        self.poll_soon()
        if self.wedge.stalled(question, error):
            await self._become_away(self.wedge.error)

    async def _probe(self) -> None:
        try:
            if await self.wedge.probe():
                self.poll_soon()
        finally:
            self._probing = None

    def _poll_ended(self, poll: asyncio.Task[None]) -> None:
        if self._polling is poll:
            self._polling = None

    def _pause_s(self) -> float:
        if self.health.up:
            return self._interval_s
        return min(self._interval_s, AWAY_POLL_S[min(self._failures, len(AWAY_POLL_S)) - 1])

    async def _poll(self) -> None:
        began, changes = self._clock.monotonic(), self._changes
        try:
            tags, ps, version = await asyncio.gather(
                self._target.fetch("GET", "/api/tags", within_s=POLL_TIMEOUT_S),
                self._target.fetch("GET", "/api/ps", within_s=POLL_TIMEOUT_S),
                self._target.fetch("GET", "/api/version", within_s=POLL_TIMEOUT_S),
            )
            listing = _listing(tags, ps)
            version_text = str(orjson.loads(version).get("version", ""))
        except TargetRefused as error:
            await self._become_away(f"HTTP {error.status}: {error}")
        except TargetError as error:
            await self._become_away(str(error))
        except (ValueError, AttributeError, KeyError, TypeError, RecursionError) as error:
            await self._become_away(f"the target does not answer as Ollama does: {error}")
        else:
            self._failures = 0
            self.listing, self._listed = listing, changes
            for told in self.on_listing:
                told(listing, began)
            await self._answered(version_text)

    async def _answered(self, version: str) -> None:
        """The lists are there, which is all there is to ask for unless the target is wedged."""
        health = Health(up=True, last_success=self._clock.now(), version=version)
        if self.wedge.since is not None:
            since = self.health.away_since
            health = replace(health, up=False, error=self.wedge.error, away_since=since, stalled_since=self.wedge.since)
        await self._change(health)

    async def _become_away(self, error: str) -> None:
        self._failures += 1
        before = self.health
        if before.up is not False:
            self._wanted.set()  # whoever noticed it, `run` must not sleep on as if it were there
        since = before.away_since if before.up is False else self._clock.now()
        await self._change(replace(before, up=False, error=error, away_since=since, stalled_since=self.wedge.since))

    async def _change(self, health: Health) -> None:
        before, self.health = self.health, health
        for told in self.on_change:
            await told(before, health)

    def away_s(self, before: Health) -> float | None:
        """Seconds that an absence has lasted, for the event that ends it."""
        return None if before.away_since is None else seconds_between(before.away_since, self._clock.now())


def _listing(tags: bytes, ps: bytes) -> Listing:
    models: dict[str, Model] = {}
    for entry in _entries(tags):
        name = str(entry["name"])
        models[canonical(name)] = Model(name=name, digest=str(entry.get("digest") or canonical(name)))
    loaded = tuple(str(entry.get("digest") or canonical(str(entry["name"]))) for entry in _entries(ps))
    return Listing(tags=tags, ps=ps, models=models, loaded=loaded)


def _entries(body: bytes) -> list[dict[str, Any]]:
    return list(orjson.loads(body)["models"] or ())
