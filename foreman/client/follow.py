"""Following: a job's answer line by line, and the log as it grows. Does no I/O: see `core`.

Both know at any moment how far they have got, so that a broken connection or a new life of the daemon costs no line and
brings none twice.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, Final

from foreman.client.core import Item, Items, Operation, Request, given, job_path, understood
from foreman.client.errors import JobCancelled, JobFailed, PositionUnknown, Unreachable
from foreman.client.jobs import NDJSON, Jobs
from foreman.client.state import Head
from foreman.client.types import Event, NewRun, StreamLine, spoken
from foreman.client.wire import decoded
from foreman.errors import EventsArchived, RequestInvalid

SSE: Final = "text/event-stream"
#: A stream may be silent for as long as the daemon gives no sign of life, 120 s by default. To ask anew costs little.
STREAM_SILENCE_S: Final = 150.0
#: Three times the silence that the feed allows itself.
EVENTS_SILENCE_S: Final = 45.0
ENDS_ALWAYS: Final = "the connection to foreman ends again and again"


class Following(Jobs):
    """What can be followed."""

    def stream(self, job_id: str) -> Items[StreamLine | NewRun]:
        """The job's answer, line by line as Ollama makes it, to its end: `StreamLine`s.

        It goes on by itself after a broken connection or a restart of foreman, and loses and repeats no line. When the
        job had to be started anew a `NewRun` comes: what came before it is void. Raises JobFailed or JobCancelled if
        the job ends without an answer, JobExpired if its contents are gone, Unreachable if foreman stays away.
        """
        tail, patience = _Tail(job_id), self._patience()
        while True:
            yield from self._follow(tail.request, tail.take, patience)
            if tail.complete:
                return
            # A clean end without the answer's own: some proxies end a broken stream so.
            job = yield from self.get(job_id)
            if job.finished:
                job.raise_for_state()
                return
            yield patience.pause(Unreachable(ENDS_ALWAYS))

    def events(
        self,
        *,
        after: int | None = None,
        types: str | Sequence[str] | None = None,
        job: str | None = None,
        model: str | None = None,
        follow: bool = True,
    ) -> Items[Event]:
        """What happened, in the log's order, from after a position on: 0 for all of it, None for what is to come.

        It goes on by itself where a connection broke off, and ends never. With `follow=False` it ends at the log's end,
        and None is all that is kept outside archives.
        `job` is an id, or `daemon` for foreman's own events. Raises PositionUnknown if the log ends before `after`,
        EventsArchived if it begins later.
        """
        listed = types if types is None or isinstance(types, str) else ",".join(types)
        wanted = given(job=job, type=listed, model=model)
        if not follow:
            yield from self._past(after, wanted)
            return
        feed, patience = _Feed(after, wanted), self._patience()
        while True:
            yield from self._follow(feed.request, feed.take, patience)
            yield patience.pause(Unreachable(ENDS_ALWAYS))

    def _past(self, after: int | None, wanted: dict[str, str | int]) -> Items[Event]:
        while True:
            params = {**wanted, **given(after=after), "limit": 1_000}
            try:
                answer = yield from self._ask(Request(method="GET", path="/events", params=params))
            except RequestInvalid:
                yield from self._refuse_unknown(after or 0)
                raise
            found, after, head = understood(answer, _page)
            for item in found:
                yield Item(item)
            if after >= head:
                return

    def _refuse_unknown(self, after: int) -> Operation[None]:
        """Raises PositionUnknown if the log ends before the position."""
        head = understood((yield from self._ask(Request(method="GET", path="/audit/head"))), Head.of).position
        if after > head:
            raise _unknown(after, head) from None


def _unknown(after: int | None, head: int) -> PositionUnknown:
    return PositionUnknown(f"the log ends at {head}, before position {after}", head=head)


class Lines:
    """Cuts bytes into lines. One that is long costs no more than its length, in however many pieces it comes."""

    def __init__(self) -> None:
        self._begun: list[bytes] = []

    def feed(self, chunk: bytes) -> list[bytes]:
        """The lines that this ends."""
        first, *rest = chunk.split(b"\n")
        self._begun.append(first)
        if not rest:
            return []
        lines = [b"".join(self._begun), *rest[:-1]]
        self._begun = [rest[-1]]
        return lines


class _Tail:
    """How far a follower of one job has got."""

    def __init__(self, job_id: str) -> None:
        self._job_id = job_id
        self._path = job_path(job_id, "/stream")
        self._run = 1
        self._number = 0
        self._lines = Lines()
        #: The line that ends an answer has come. Only the stream's own end makes it final: the daemon may have died
        #: before the answer was on disk.
        self.complete = False

    def request(self) -> Request:
        """Asks for what is missing."""
        self._lines = Lines()
        params = {"run": self._run, "offset": self._number}
        headers = {"accept": NDJSON}
        return Request(
            method="GET", path=self._path, params=params, headers=headers, silence_s=STREAM_SILENCE_S, streamed=True
        )

    def take(self, chunk: bytes) -> Iterator[StreamLine | NewRun]:
        """What these bytes bring."""
        for line in self._lines.feed(chunk):
            if line := line.strip():
                said = _object(line)
                item = self._marker(said["foreman"]) if said.keys() == {"foreman"} else self._line(line, said)
                if item is not None:
                    yield item

    def _line(self, line: bytes, said: dict[str, Any]) -> StreamLine:
        self._number += 1
        self.complete = said.get("done") is True
        text, thinking = spoken(said)
        return StreamLine(run=self._run, number=self._number, text=text, thinking=thinking, line=line, raw=said)

    def _marker(self, told: object) -> NewRun | None:
        match told:
            case {"event": "run", "run": int(run), "attempt": int(attempt)}:
                self._run, self._number, self.complete = run, 0, False
                return NewRun(run=run, attempt=attempt)
            case {"event": "failed", "error": error, "code": code}:
                raise JobFailed(error or "the job failed", job_id=self._job_id, code=code)
            case {"event": "cancelled"}:
                raise JobCancelled("the job was cancelled", job_id=self._job_id)
        return None  # something that a newer foreman says


class _Feed:
    """How far a follower of the log has got."""

    def __init__(self, after: int | None, wanted: dict[str, str | int]) -> None:
        self._after = after
        self._wanted = wanted
        self._lines = Lines()
        self._id = self._event = ""
        self._data: list[str] = []

    def request(self) -> Request:
        """Asks for what comes after."""
        self._lines, self._id, self._event, self._data = Lines(), "", "", []
        headers = {"accept": SSE, **({} if self._after is None else {"last-event-id": str(self._after)})}
        return Request(
            method="GET",
            path="/events",
            params=self._wanted,
            headers=headers,
            silence_s=EVENTS_SILENCE_S,
            streamed=True,
        )

    def take(self, chunk: bytes) -> Iterator[Event]:
        """What these bytes bring."""
        for line in self._lines.feed(chunk):
            name, _, value = line.removesuffix(b"\r").decode("utf-8", "replace").partition(":")
            value = value.removeprefix(" ")
            if name == "id":
                self._id = value
            elif name == "event":
                self._event = value
            elif name == "data":
                self._data.append(value)
            elif not line.strip():
                yield from self._dispatch()

    def _dispatch(self) -> Iterator[Event]:
        """The message that an empty line ends. Not before it is the position ours: what breaks off was not heard."""
        event, data = self._event, "\n".join(self._data)
        self._event, self._data = "", []
        if event == "reset":
            facts = decoded(200, data.encode(), dict)
            if facts.get("reason") == "unknown_position":
                raise _unknown(self._after, int(facts["head"]))
            if facts.get("reason") == "archived":
                raise EventsArchived(f"the events after {self._after} were moved to the archive {facts.get('archive')}")
            return  # cut off for being slow: what is missing comes with the next connection
        if self._id.isdecimal():
            self._after = int(self._id)
        if data:
            yield decoded(200, data.encode(), Event.of)


def _page(said: Any) -> tuple[list[Event], int, int]:
    return [Event.of(item) for item in said["events"]], said["next"], said["head"]


def _object(line: bytes) -> dict[str, Any]:
    """What a line says; nothing, if it is no JSON object."""
    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}
