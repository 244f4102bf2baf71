"""The daemon's life: in what order its parts start and stop. What they are and how they are joined is in `parts`.

`start` goes storage, migrations, projections, recovery, target, webhooks, worker, HTTP; `stop`
is the reverse. Each background task has a name, and if one dies the daemon stops, says which, and recovers at the next
start.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from functools import partial
from typing import Any, Final

from sanic import Sanic

from foreman.api.desk import Desk
from foreman.api.server import create_app
from foreman.api.serving import HttpServer
from foreman.clock import Clock, SystemClock
from foreman.commands.interruption import after_interruption
from foreman.commands.ledger import Outcome
from foreman.commands.recovery import Recovery, recover
from foreman.commands.types import Note
from foreman.config.settings import Settings
from foreman.errors import ConfigError, ForemanError, NotReady, StorageFull
from foreman.events.daemon import DaemonStopped, TargetDegraded, TargetRecovered
from foreman.events.types import CancelledBy, Event
from foreman.fsm.job import WAITING
from foreman.logs import get_logger
from foreman.parts import Parts
from foreman.sockets import must_not_be_itself
from foreman.target.inventory import Health

log = get_logger(__name__)

#: At shutdown, how long a job that is just being submitted is waited for.
COMMIT_WITHIN_S: Final = 2.0
#: At shutdown, how long webhooks under way are waited for; what is cut short is made again at the next start.
DELIVER_WITHIN_S: Final = 2.0


class TaskDied(ForemanError):
    """A part of foreman stopped working, so all of it stops: the next start recovers from the log."""

    code = "task_died"


class Foreman(Parts):
    """The daemon. `start` and `stop` may each be called twice, and `stop` without `start`."""

    def __init__(self, settings: Settings, clock: Clock | None = None) -> None:
        super().__init__(settings, clock or SystemClock())
        self.http = HttpServer()
        self.desk: Desk | None = None
        self.app: Sanic[Any, Any] | None = None
        self.inventory.on_change.append(self._note_health)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._died: asyncio.Future[None] | None = None

    async def start(self) -> Recovery:
        """Bring everything up, HTTP last. Raises ForemanError; what was started by then is stopped by `stop`."""
        if self._died is not None:
            return Recovery(requeued=0, cancelled=0, deliveries=0)
        self._died = asyncio.get_running_loop().create_future()
        # The database first: of two daemons with the same settings the second should learn who the first is.
        await self.database.open()
        self.http.bind(self.settings.addr)
        must_not_be_itself(self.settings.ollama_url, self.http.addresses)
        self.destinations.listening = self.http.addresses
        unfinished = await self.ledger.restore()
        self._spawn("ledger", self.ledger.run())
        recovery = await recover(self.ledger, unfinished, self.scheduling)
        self._spawn("inventory", self.inventory.run())
        self._spawn("webhooks", self.dispatcher.run())
        self._spawn("worker", self.worker.run())
        self._spawn("sweeper", self.sweeper.run())
        self._spawn("meters", self.meters.run())
        if self.embedder is not None:
            self._spawn("embedder", self.embedder.run())
        await self._serve()
        return recovery

    async def wait(self) -> None:
        """Return when a part of the daemon dies, by raising what it died of."""
        assert self._died is not None
        await asyncio.shield(self._died)

    async def stop(self) -> None:
        """Take no new work, let what runs finish or go back to the queue, make it durable, close."""
        if self.desk is not None:
            self.desk.draining = True
        try:
            if self._is_alive("ledger"):
                await self._dismiss_callers()
                if self._is_alive("worker"):
                    await self.worker.drain(self.settings.drain_timeout_s)
            if self.desk is not None:
                self.desk.close()
            await self.http.stop()
            if self._is_alive("webhooks"):
                await self.dispatcher.drain(DELIVER_WITHIN_S)
            for name in ("meters", "embedder", "sweeper", "worker", "webhooks", "inventory"):
                await self._end(name)
            if self._is_alive("ledger"):
                # Last of all: whoever could still write has gone.
                await self._note(DaemonStopped(waiting=len(self.ledger.work.queue)))
        finally:
            self.ledger.close()
            if (ledger := self._tasks.pop("ledger", None)) is not None:
                await asyncio.wait({ledger})
            await self.target.close()
            await self.database.close()

    async def _dismiss_callers(self) -> None:
        """Blocking callers whose jobs still wait will not be served any more: their jobs end here, with a 503."""
        commands = []
        for job_id in list(self.tails):
            with self.ledger.feed.watch(job_id) as committed, suppress(TimeoutError):
                # A caller's tail is there before its job is.
                if await self.ledger.job(job_id) is None:
                    async with asyncio.timeout(COMMIT_WITHIN_S):
                        await committed.wait()
            job = await self.ledger.job(job_id)
            if job is not None and job.state in WAITING:
                commands.append(after_interruption(job, CancelledBy.SHUTDOWN))
        results = await asyncio.gather(
            *(self.ledger.execute(command) for command in commands if command is not None), return_exceptions=True
        )
        _look_at(results)

    async def _serve(self) -> None:
        self.desk = Desk(
            settings=self.settings,
            clock=self.clock,
            read=self.database.read,
            ledger=self.ledger,
            target=self.target,
            inventory=self.inventory,
            residency=self.residency,
            tails=self.tails,
            destinations=self.destinations,
            outlook=self.outlook,
            started_at=self.clock.now(),
            render_metrics=self.exporter.render,
            answered=self.meters.answered,
        )
        self.app = create_app(self.desk, name=f"foreman-{id(self):x}", local_only=self.http.is_local)
        try:
            await self.http.start(self.app)
        except OSError as error:
            # Somebody else bound the same address at the same time and was the first to listen.
            raise ConfigError(f"cannot listen on {self.settings.addr}: {error.strerror or error}") from error

    def _spawn(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(partial(self._task_ended, name))
        self._tasks[name] = task

    def _task_ended(self, name: str, task: asyncio.Task[None]) -> None:
        error = asyncio.CancelledError("it was cancelled") if task.cancelled() else task.exception()
        if self._tasks.get(name) is not task or self._died is None or self._died.done():
            return  # it was told to end, or is not the first to die
        log.error("task.died", task=name, exc_info=error)
        cause = _innermost(error) if error else None
        died = TaskDied(f"the {name} stopped working: {cause or 'it came to its end'}")
        died.__cause__ = cause
        self._died.set_exception(died)
        self._died.exception()  # somebody looks at it in `wait`, or nobody needs to

    def _is_alive(self, name: str) -> bool:
        task = self._tasks.get(name)
        return task is not None and not task.done()

    async def _end(self, name: str) -> None:
        task = self._tasks.pop(name, None)
        if task is not None:
            task.cancel()
            await asyncio.wait({task})

    async def _note_health(self, before: Health, now: Health) -> None:
        """Record that the target went away or came back, and let the worker know."""
        url = self.settings.ollama_url
        if now.up and not before.up:
            happened = "target.recovered" if before.up is False else "target.found"
            log.info(happened, target=url, version=now.version, models=len(self.inventory.listing.models))
            await self._note(TargetRecovered(version=now.version, away_s=self.inventory.away_s(before)))
        elif now.up is False and before.up is not False:
            hint = "restart Ollama" if now.stalled_since else NotReady.hint
            log.warning("target.degraded", target=url, error=now.error, hint=f"{hint}; jobs wait for it")
            await self._note(TargetDegraded(error=now.error))
        self.worker.poke()

    async def _note(self, event: Event) -> None:
        try:
            await self.ledger.execute(Note(event=event))
        except StorageFull as error:
            # Health is worth a line in the log, not the daemon's life; jobs have their own way with a full disk.
            log.error("disk.full", error=str(error), hint=error.hint)


def _look_at(results: list[Outcome | BaseException]) -> None:
    for error in results:
        # A full disk, say. The stop goes on: the log has these jobs as waiting, and the next start ends them.
        if isinstance(error, ForemanError):
            log.error("callers.not_dismissed", error=str(error))
        elif isinstance(error, BaseException):
            raise error


def _innermost(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
