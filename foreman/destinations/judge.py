"""Whether foreman may send to a destination, judged by the addresses that it resolves to. Sends nothing itself.

A name is never judged by how it is written: there are too many ways to write 127.0.0.1. Whoever sends must dial the
very places that were judged, since the next look-up may give others.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from foreman.clock import Clock, SystemClock
from foreman.config.networks import Networks
from foreman.destinations.lookup import Place, Resolve, resolve
from foreman.destinations.url import DEFAULT_PORTS, Destination
from foreman.errors import AddressRefused

#: How long a submission waits for a good message, and how long what was found is held.
LOOK_WITHIN_S: Final = 1.0
LOOK_HOLDS_S: Final = 5.0
#: Looks that are remembered, and those that may be under way: each of these may hold a thread until a resolver gives
#: up, however many names a caller makes up.
MOST_LOOKS: Final = 1_000
MOST_LOOKS_AT_ONCE: Final = 64

#: What binding to another machine's address says; EINVAL is for a link-local one without its interface, which
#: cannot be dialled either.
_NOT_HERE: Final = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EINVAL})


@dataclass(slots=True)
class _Look:
    """What is known of a destination since `began`: the words of a refusal, or None."""

    verdict: asyncio.Task[str | None]
    began: float


class Destinations:
    """Says where a webhook's URL leads and whether foreman may send there: to its own port and the target's never."""

    def __init__(
        self, networks: Networks, target_url: str, resolve: Resolve = resolve, clock: Clock | None = None
    ) -> None:
        #: What foreman itself listens on; set once that is known.
        self.listening: Sequence[tuple[str, int]] = ()
        self._networks = networks
        self._resolve = resolve
        self._clock = clock or SystemClock()
        target = urlsplit(target_url)
        self._target_host, self._target_port = target.hostname or "", target.port or DEFAULT_PORTS[target.scheme]
        self._target_places: tuple[Place, ...] = ()
        self._looks: dict[tuple[str, int], _Look] = {}
        self._under_way: set[asyncio.Task[str | None]] = set()

    async def places(self, destination: Destination) -> tuple[Place, ...]:
        """Every address of the destination. Raises AddressRefused if one of them is refused, OSError if there is none.

        One bad address among good ones refuses all: whoever mixes them wants the bad one to be dialled some day.
        """
        places = await self._found(destination.host, destination.port)
        target = await self._target() if destination.port == self._target_port else ()
        for place in places:
            if (reason := self._refusal(place, target)) is not None:
                who = "it" if str(place.ip) == destination.host else place.ip
                raise AddressRefused(f"webhooks are not sent to {destination.host}: {who} is {reason}")
        return places

    async def look_over(self, destination: Destination) -> None:
        """Raises AddressRefused if it is known within a second that `places` would.

        Only for an early message to a caller; a name that does not resolve now may do so when there is news.
        """
        now = self._clock.monotonic()
        key = (destination.host, destination.port)
        look = self._looks.get(key)
        if look is None or (look.verdict.done() and now >= look.began + LOOK_HOLDS_S):
            if len(self._under_way) >= MOST_LOOKS_AT_ONCE:
                return
            look = self._begin(destination, now)
        if not look.verdict.done():
            # From the beginning of the look: those who come to one that hangs do not wait as well.
            await asyncio.wait({look.verdict}, timeout=max(0.0, look.began + LOOK_WITHIN_S - now))
        if look.verdict.done() and not look.verdict.cancelled() and (refused := look.verdict.result()):
            raise AddressRefused(refused)

    def _begin(self, destination: Destination, now: float) -> _Look:
        key = (destination.host, destination.port)
        if len(self._looks) >= MOST_LOOKS:
            del self._looks[next(iter(self._looks))]
        verdict = asyncio.create_task(self._verdict(destination), name=f"look over {destination.receiver}")
        self._under_way.add(verdict)
        verdict.add_done_callback(self._under_way.discard)
        look = self._looks[key] = _Look(verdict, now)
        return look

    async def _verdict(self, destination: Destination) -> str | None:
        try:
            await self.places(destination)
        except AddressRefused as refused:
            return str(refused)
        except OSError:
            return None
        return None

    def _refusal(self, place: Place, target: Sequence[Place]) -> str | None:
        if (reason := self._networks.refusal(place.ip)) is not None:
            return f"{reason}; FOREMAN_WEBHOOK_NETWORKS says where they may go"
        port = place.sockaddr[1]
        if port in {own for _, own in self.listening} and _is_here(place):
            return f"foreman itself, which listens on port {port}"
        if place.ip in {one.ip for one in target} or (any(map(_is_here, target)) and _is_here(place)):
            return f"the Ollama server, which listens on port {port}"
        return None

    async def _target(self) -> tuple[Place, ...]:
        # A target whose name does not resolve now is taken to be where it was: a fault of the name service opens no
        # way to it, and a target that was never found keeps no webhook back.
        with suppress(OSError):
            async with asyncio.timeout(LOOK_WITHIN_S):
                self._target_places = await self._found(self._target_host, self._target_port)
        return self._target_places

    async def _found(self, host: str, port: int) -> tuple[Place, ...]:
        found = await self._resolve(host, port)
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "the name has no address")
        return tuple(dict.fromkeys(Place(family, sockaddr) for family, sockaddr in found))


def _is_here(place: Place) -> bool:
    """Whether the address is one of this machine's: to others no socket can be bound.

    Nothing else knows all of them without a library. UDP on a port of the system's choice takes nobody's place, and
    the unspecified address, which leads to this machine when dialled, can be bound as well.
    """
    try:
        with socket.socket(place.family, socket.SOCK_DGRAM) as probe:
            probe.bind((place.sockaddr[0], 0, *place.sockaddr[2:]))
    except OSError as error:
        if error.errno in _NOT_HERE:
            return False
        raise  # an attempt that cannot be judged is a failed one
    return True
