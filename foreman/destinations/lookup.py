"""The addresses of a host, from the system's resolver, without keeping anybody else waiting. Judges nothing."""

from __future__ import annotations

import asyncio
import errno
import socket
import threading
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, TypeVar, cast

from foreman.config.networks import IPAddress, plain
from foreman.destinations.url import joined

Sockaddr = tuple[str, int] | tuple[str, int, int, int]
#: Gives every address of a host, or raises OSError.
Resolve = Callable[[str, int], Awaitable[Sequence[tuple[socket.AddressFamily, Sockaddr]]]]
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Place:
    """One address to dial."""

    family: socket.AddressFamily
    sockaddr: Sockaddr

    @property
    def ip(self) -> IPAddress:
        """The address that is judged."""
        return plain(ip_address(self.sockaddr[0]))

    @property
    def address(self) -> str:
        """`93.184.216.34:443` or `[::1]:80`."""
        host, port = self.sockaddr[:2]
        return joined(host, port)


async def in_a_thread_of_its_own(call: Callable[[], _T]) -> _T:
    """What `call` returns or raises; cancelling lets go of it at once.

    Not the loop's executor: calls that hang would fill it for everybody, and the process could not end before them.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[_T] = loop.create_future()

    def settle(put: Callable[[Any], None], outcome: Any) -> None:
        if not future.done():  # somebody still waits
            put(outcome)

    def run() -> None:
        put: Callable[[Any], None] = future.set_result
        outcome: Any = None
        try:
            outcome = call()
        except Exception as error:  # noqa: BLE001  (the thread's edge: it is raised where somebody waits for it)
            put, outcome = future.set_exception, error
        with suppress(RuntimeError):  # the loop was closed in the meantime
            loop.call_soon_threadsafe(settle, put, outcome)

    try:
        threading.Thread(target=run, name="resolver", daemon=True).start()
    except RuntimeError as error:
        raise OSError(errno.EAGAIN, "no thread is left to look up a name") from error
    return await future


async def resolve(host: str, port: int) -> list[tuple[socket.AddressFamily, Sockaddr]]:
    """Every address of a host, from the system's resolver; `socket.gaierror` if there is none."""
    # Some resolvers would ask the network for `localhost.`, which is never anything but loopback (RFC 6761).
    name = "localhost" if host == "localhost." else host
    with suppress(socket.gaierror):
        # What is an address in any spelling is only converted: that takes no thread, as it asks nobody.
        return _look_up(name, port, socket.AI_NUMERICHOST)
    return await in_a_thread_of_its_own(lambda: _look_up(name, port))


def _look_up(host: str, port: int, flags: int = 0) -> list[tuple[socket.AddressFamily, Sockaddr]]:
    # Bytes, since Python would pass text through its own rules for international names, which know other errors.
    found = socket.getaddrinfo(host.encode("ascii"), port, type=socket.SOCK_STREAM, flags=flags)
    return [(family, cast("Sockaddr", sockaddr)) for family, _, _, _, sockaddr in found]
