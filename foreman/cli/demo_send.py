"""Sends the demo's jobs and follows them, through HTTP alone. Writes what it learns on the board, prints nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import httpx
import orjson

from foreman.cli.demo_jobs import FINISHED, Board, History, How, Item
from foreman.errors import Unavailable

#: How often the list of jobs is looked at, and how often a call that is on its way is looked for.
LOOK_EVERY_S: Final = 0.1
ARRIVAL_LOOK_S: Final = 0.01


class Sender:
    """Sends the jobs and follows them, through HTTP alone."""

    def __init__(self, client: httpx.AsyncClient, board: Board, changed: Callable[[Item], None]) -> None:
        """`changed` is called each time a job changes its state."""
        self._client = client
        self._board = board
        self._changed = changed
        self._known: dict[str, Item] = {}
        self._awaited: Item | None = None

    async def run(self) -> None:
        """Send all and return when every one is over and every answer read. Raises Unavailable."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._watch(), name="demo watch")
                for item in self._board.items:
                    await asyncio.sleep(item.order.pause_s)
                    await self._send(item, group)
        except ExceptionGroup as group:
            lost = group.subgroup(httpx.HTTPError)
            if lost is None:
                raise
            raise Unavailable(f"foreman did not answer as it should: {_innermost(lost)}") from group

    async def _send(self, item: Item, group: asyncio.TaskGroup) -> None:
        """Send one and return when foreman has it: so the order of arrival is that of the demo."""
        if item.order.how is How.JOB:
            response = await self._client.post("/jobs", json=item.order.body)
            response.raise_for_status()
            await self._meet(item, response.json())
            group.create_task(self._follow(item), name=f"demo follow {item.order.number}")
            return
        self._awaited = item
        call = group.create_task(self._call(item), name=f"demo call {item.order.number}")
        while not item.job_id:
            over = call.done()
            await self._look()
            if over and not item.job_id:  # it was turned away and never became a job
                item.state = "failed"
                break
            await asyncio.sleep(ARRIVAL_LOOK_S)
        self._awaited = None

    async def _call(self, item: Item) -> None:
        """What any program does that speaks to Ollama."""
        if item.order.how is How.BLOCKING:
            response = await self._client.post("/api/chat", json={**item.order.body, "stream": False})
            if self._answered(item, response):
                item.text = response.json()["message"]["content"]
            return
        async with self._client.stream("POST", "/api/chat", json=item.order.body) as response:
            if response.is_error:
                await response.aread()
            if self._answered(item, response):
                await self._read_lines(item, response)

    async def _follow(self, item: Item) -> None:
        """The live tail of a job that nobody waits for."""
        async with self._client.stream("GET", f"/jobs/{item.job_id}/stream") as response:
            response.raise_for_status()
            await self._read_lines(item, response)

    @staticmethod
    async def _read_lines(item: Item, response: httpx.Response) -> None:
        async for line in response.aiter_lines():
            try:
                said = orjson.loads(line)
            except orjson.JSONDecodeError:
                item.faults.append(f"a line of its answer is no JSON: {line[:80]}")
                continue
            if "foreman" in said:  # of its own: a new run, or an end without an answer; what came before is void
                item.text = ""
                item.faults += [said["foreman"]["error"]] if "error" in said["foreman"] else []
            elif "error" in said:
                item.faults.append(said["error"])
            else:
                item.text += said["message"]["content"]

    @staticmethod
    def _answered(item: Item, response: httpx.Response) -> bool:
        item.answered_as = response.headers.get("x-foreman-job-id", "")
        if response.is_error:
            item.faults.append(f"the call was answered with HTTP {response.status_code}: {response.text.strip()}")
        return not response.is_error

    async def _watch(self) -> None:
        while not self._board.finished:
            await self._look()
            await asyncio.sleep(LOOK_EVERY_S)

    async def _look(self) -> None:
        response = await self._client.get("/jobs", params={"limit": 100})
        response.raise_for_status()
        # By their last events, so that what happened first is told first.
        for shown in sorted(response.json()["jobs"], key=lambda job: job["log_position"]):
            item = self._known.get(shown["job_id"])
            if item is not None:
                await self._update(item, shown)
            elif self._awaited is not None and not self._awaited.job_id:
                await self._meet(self._awaited, shown)

    async def _meet(self, item: Item, shown: dict[str, Any]) -> None:
        item.job_id = shown["job_id"]
        self._known[item.job_id] = item
        item.state = "queued"  # every job begins so, even one that has been started by now
        self._changed(item)
        await self._update(item, shown)

    async def _update(self, item: Item, shown: dict[str, Any]) -> None:
        if shown["version"] > item.version:
            await self._read_history(item)
        self._take(item, shown)

    def _take(self, item: Item, shown: dict[str, Any]) -> None:
        if shown["version"] < item.version:
            return  # another look was faster
        before, item.state, item.version = item.state, shown["state"], shown["version"]
        item.position = shown["queue"]["position"] if shown["queue"] else None
        if item.state in FINISHED and item.ended is None:
            item.ended = 1 + sum(other.ended is not None for other in self._board.items)
            item.run_s = shown["result"]["run_seconds"] if shown["result"] else None
        if item.state != before:
            self._changed(item)

    async def _read_history(self, item: Item) -> None:
        response = await self._client.get(f"/jobs/{item.job_id}/events")
        response.raise_for_status()
        item.history = read_history(response.json()["events"])


def _innermost(error: BaseException) -> BaseException:
    return _innermost(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


def read_history(events: Sequence[dict[str, Any]]) -> History:
    """A job's events as the few facts that the demo sums up."""
    queued = next(event for event in events if event["type"] == "job.queued")
    works: Iterator[dict[str, Any]] = (event for event in events if event["type"] == "job.working")
    working = next(works, None)
    return History(
        arrived=queued["position"],
        load_key=queued["data"]["load_key"],
        started=working["position"] if working else None,
        load_s=working["data"]["load_s"] if working else None,
        waited_s=working["data"]["waited_s"] if working else None,
    )
