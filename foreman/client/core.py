"""The client without its connection: what an operation asks for, and when it asks again. Does no I/O.

An operation is a generator. It yields steps, is sent what came of each, and returns its result:

- a `Request`, answered with an `Answer` or, if the connection broke, with `Lost`;
- `Read()`, after a request with `streamed`: the next bytes, `b""` at the end, or `Lost`;
- `Pause(seconds)`;
- `Item(value)`, something for whoever iterates over the operation.

What drives it, with or without asyncio, is `sync.py` and `aio.py`, which decide nothing.
"""

from __future__ import annotations

import logging
import random
import re
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar, cast

from foreman.client.errors import error_of, unexpected
from foreman.client.wire import decoded
from foreman.errors import ForemanError, LogError, RequestInvalid

T = TypeVar("T")

_log = logging.getLogger("foreman.client")
_JOB_ID: Final = re.compile(r"[0-9A-Za-z]{1,64}")
#: Answers after which the same request may get another one.
_PASSING: Final = frozenset({429, 502, 503, 504})


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to ask the daemon."""

    method: str
    path: str
    params: Mapping[str, str | int] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)
    #: The longest silence that is no broken connection; None is the client's own time-out.
    silence_s: float | None = None
    #: The answer is to be read piece by piece.
    streamed: bool = False
    #: To ask again does no harm, even if the daemon had it already.
    repeatable: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the daemon said; a streamed one has its body still to come."""

    status: int
    #: With names in lower case.
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Lost:
    """There was no answer, or it broke off."""

    error: ForemanError
    #: The daemon may have got the request.
    sent: bool = True


@dataclass(frozen=True, slots=True)
class Read:
    """Asks for the next bytes of a streamed answer."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Asks for some time to pass."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Item(Generic[T]):
    """Something for the caller."""

    value: T


Step = Request | Read | Pause
#: An operation that returns this.
Operation = Generator[Step, Any, T]
#: An operation that hands out these.
Items = Generator[Step | Item[T], Any, None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """How long to try again after a broken connection or a 503, and how fast.

    `within_s=0` never tries again.
    """

    #: How long trouble may last before it is raised.
    within_s: float = 30.0
    #: The first pause, about; each is twice the one before.
    first_s: float = 0.2
    most_s: float = 5.0


class Patience:
    """Counts how long the trouble has lasted, and says how long to pause."""

    def __init__(self, retry: Retry, now: Callable[[], float], chance: Callable[[], float]) -> None:
        self._retry = retry
        self._now = now
        self._chance = chance
        self._since: float | None = None
        self._pause_s = retry.first_s

    def restore(self) -> None:
        """All is well: what comes after this is new trouble."""
        self._since = None
        self._pause_s = self._retry.first_s

    def restore_after(self, began_at: float) -> None:
        """The same, if all went well for some time: a connection that breaks at once each time has not."""
        if self._now() - began_at > self._retry.most_s:
            self.restore()

    def pause(self, error: ForemanError, wanted_s: float = 0.0) -> Pause:
        """What to do about trouble: pause, at least as long as the daemon wants. Raises it if it lasts too long."""
        now = self._now()
        begins = self._since is None
        if self._since is None:
            self._since = now
        # A random part, so that many clients of one daemon do not come back in one moment.
        pause_s = max(self._pause_s * (0.5 + self._chance() / 2), wanted_s * (1 + self._chance() / 10))
        self._pause_s = min(self._pause_s * 2, self._retry.most_s)
        if now + pause_s - self._since > self._retry.within_s:
            raise error
        _log.log(logging.INFO if begins else logging.DEBUG, "%s; again in %.1f s", error, pause_s)
        return Pause(pause_s)


class Core:
    """What all operations share: their patience and their clock."""

    def __init__(
        self,
        retry: Retry | None = None,
        *,
        timeout_s: float = 30.0,
        now: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._retry = retry or Retry()
        self._timeout_s = timeout_s
        self._now = now
        self._chance = chance

    def _patience(self) -> Patience:
        return Patience(self._retry, self._now, self._chance)

    def _ask(self, request: Request, patience: Patience | None = None) -> Operation[Answer]:
        """The answer, however often it takes to ask. Raises the daemon's error, Unreachable, UnexpectedAnswer."""
        patience = patience or self._patience()
        while True:
            reply = cast("Answer | Lost", (yield request))
            if isinstance(reply, Lost):
                if reply.sent and not request.repeatable:
                    raise reply.error
                yield patience.pause(reply.error)
                continue
            if 200 <= reply.status < 300:
                return reply
            error = error_of(reply.status, reply.body)
            if not _passing(reply.status, error, repeatable=request.repeatable):
                raise error
            yield patience.pause(error, _retry_after_s(reply))

    def _pages(self, path: str, params: Mapping[str, str | int], items: Callable[[Any], Iterable[T]]) -> Items[T]:
        """Hand out what is listed, asking for the next page when the one before is used up."""
        cursor: str | None = None
        while True:
            answer = yield from self._ask(Request(method="GET", path=path, params={**params, **given(cursor=cursor)}))
            page, cursor = understood(answer, lambda said: (items(said), said.get("next")))
            for item in page:
                yield Item(item)
            if cursor is None:
                return

    def _follow(
        self, request: Callable[[], Request], take: Callable[[bytes], Iterator[T]], patience: Patience
    ) -> Items[T]:
        """Hand out what `take` makes of a streamed answer, going on where it broke off, to its end in good order."""
        while True:
            wanted = request()
            answer = yield from self._ask(wanted, patience)
            if wanted.headers["accept"] not in answer.headers.get("content-type", ""):
                raise unexpected(answer.status, b"its content type is not " + wanted.headers["accept"].encode())
            began_at = self._now()
            while reply := cast("bytes | Lost", (yield Read())):
                if isinstance(reply, Lost):
                    break
                for value in take(reply):
                    yield Item(value)
                    patience.restore()  # bytes alone are no progress: what they begin may break off there each time
            else:
                return
            patience.restore_after(began_at)
            yield patience.pause(reply.error)


def _passing(status: int, error: ForemanError, *, repeatable: bool) -> bool:
    """Whether it is worth asking again."""
    if not repeatable:
        return status in {429, 503}  # refused, so nothing was done; with the others nobody knows
    # A daemon that does not know whether its commit succeeded ends, and its next life knows.
    return status in _PASSING or (isinstance(error, LogError) and error.code == "commit_unknown")


def _retry_after_s(answer: Answer) -> float:
    given = answer.headers.get("retry-after", "")
    return float(given) if given.isascii() and given.isdecimal() else 0.0


def understood(answer: Answer, understand: Callable[[Any], T]) -> T:
    """What the answer says. Raises UnexpectedAnswer."""
    return decoded(answer.status, answer.body, understand)


def given(**params: str | int | None) -> dict[str, str | int]:
    """Those parameters that are not None."""
    return {name: value for name, value in params.items() if value is not None}


def job_path(job_id: str, rest: str = "") -> str:
    """The path of a job. Raises RequestInvalid for what is no id: `..` would lead elsewhere."""
    if not isinstance(job_id, str) or not _JOB_ID.fullmatch(job_id):
        raise RequestInvalid("this is no job id: it must be a ULID, 26 letters and digits")
    return f"/jobs/{job_id}{rest}"
