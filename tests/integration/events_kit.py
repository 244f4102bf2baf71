"""A client of the event feed that reads server-sent events as the standard says, and one that reads nothing."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx

from tests.kit import PATIENCE_S

SSE = {"accept": "text/event-stream"}


@dataclass(frozen=True, slots=True)
class Message:
    """What a browser would dispatch."""

    id: str
    event: str
    data: dict


class Followed:
    """What a follower has heard so far."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.messages: list[Message] = []
        self.comments = 0
        self.last_id = ""
        self.retry = 0
        #: How the connection ended; None = in good order.
        self.broken: Exception | None = None
        self.ended = False
        self._news = asyncio.Event()
        self._id = self._event = self._data = ""

    async def read(self) -> None:
        try:
            async for line in self.response.aiter_lines():
                self._take(line)
                self._news.set()
        except httpx.TransportError as error:
            self.broken = error
        self.ended = True
        self._news.set()

    def _take(self, line: str) -> None:
        name, _, value = line.partition(": ")
        if name == "id":
            self._id = value
        elif name == "event":
            self._event = value
        elif name == "data":
            self._data = value
        elif name == "retry":
            self.retry = int(value)
        elif line == "":
            self.last_id = self._id  # not before: what breaks off here was not heard
            if self._data:
                self.messages.append(Message(self.last_id, self._event, json.loads(self._data)))
            self._event = self._data = ""
        else:
            assert name == ""
            self.comments += 1

    async def until(self, true: Callable[[], object]) -> None:
        """Wait until it is so, or the stream ended."""
        async with asyncio.timeout(PATIENCE_S):
            while not true() and not self.ended:
                self._news.clear()
                await self._news.wait()

    async def heard(self, count: int) -> list[Message]:
        """Wait until so many messages have come, or all."""
        await self.until(lambda: len(self.messages) >= count)
        return self.messages

    def types(self) -> set[str]:
        """What has happened."""
        return {message.event for message in self.messages}

    def events(self) -> list[dict]:
        """The events among the messages."""
        return [message.data for message in self.messages if message.event != "reset"]


@contextlib.asynccontextmanager
async def follow(client: httpx.AsyncClient, last_id: object = None, **params):
    """A follower that knows where it begins; it leaves at the end of the block."""
    headers = SSE if last_id is None else {**SSE, "last-event-id": str(last_id)}
    async with client.stream("GET", "/events", params=params, headers=headers) as response:
        assert response.status_code == 200, await response.aread()
        followed = Followed(response)
        task = asyncio.create_task(followed.read())
        try:
            await followed.until(lambda: followed.last_id)
            yield followed
        finally:
            task.cancel()
            await asyncio.wait({task})


def deaf(url: str, after: int = 0) -> socket.socket:
    """A follower that reads nothing, and whose machine takes little for it."""
    place = urlsplit(url)
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect((place.hostname, place.port))
    sock.sendall(b"GET /events?after=%d HTTP/1.1\r\nhost: localhost\r\naccept: text/event-stream\r\n\r\n" % after)
    return sock
