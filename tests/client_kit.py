"""Both clients in one shape, so that a test of one is a test of the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

from foreman.client import AsyncClient, Client

KINDS = ("Client", "AsyncClient")
#: What ends an iterator that is moved on in a thread, where StopIteration cannot be raised.
_END = object()


class Blocking:
    """A `Client`, whose calls are made in threads."""

    def __init__(self, client: Client) -> None:
        self.client = client

    def __getattr__(self, name: str) -> Any:
        async def call(*args: Any, **kwargs: Any) -> Any:
            return await asyncio.to_thread(getattr(self.client, name), *args, **kwargs)

        return call

    async def each(self, name: str, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        """What an iterating method hands out."""
        items = getattr(self.client, name)(*args, **kwargs)
        while (item := await asyncio.to_thread(next, items, _END)) is not _END:
            yield item
        items.close()


class Awaiting:
    """An `AsyncClient`, as it is."""

    def __init__(self, client: AsyncClient) -> None:
        self.client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self.client, name)

    async def each(self, name: str, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        """What an iterating method hands out."""
        async with aclosing(getattr(self.client, name)(*args, **kwargs)) as items:
            async for item in items:
                yield item


@asynccontextmanager
async def connected(kind: str, url: str, *args: Any, **kwargs: Any) -> AsyncIterator[Blocking | Awaiting]:
    """A client of this kind to the daemon at `url`."""
    if kind == "Client":
        with Client(url, *args, **kwargs) as client:
            yield Blocking(client)
    else:
        async with AsyncClient(url, *args, **kwargs) as client:
            yield Awaiting(client)
