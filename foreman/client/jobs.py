"""Operations on jobs, but for following them as they go. Does no I/O: see `core`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal
from urllib.parse import quote
from uuid import uuid4

from foreman.client.core import Answer, Core, Item, Items, Operation, Request, given, job_path, understood
from foreman.client.errors import WaitTimeout
from foreman.client.types import Completion, Event, Job, JobClass, JobState, Webhook
from foreman.client.wire import encoded
from foreman.errors import ForemanError, RequestInvalid

#: Of one poll. Longer waits look like broken connections to proxies.
POLL_S: Final = 30.0
#: Of one batch: below what the daemon takes at its default, with room for a large job.
MOST_BATCH_BYTES: Final = 8 << 20
#: The daemon takes 255; `submit_many` adds a number.
LONGEST_KEY: Final = 240
NDJSON: Final = "application/x-ndjson"
_ARTIFACT: Final = re.compile(r"[\w-][\w.-]*", re.ASCII)


class Jobs(Core):
    """What can be asked about jobs."""

    def submit(
        self,
        /,
        *,
        model: str,
        prompt: str | None = None,
        messages: Sequence[Mapping[str, Any]] | None = None,
        options: Mapping[str, Any] | None = None,
        keep_alive: str | float | None = None,
        job_class: JobClass | None = None,
        webhook: Webhook | str | None = None,
        idempotency_key: str | None = None,
        **members: Any,
    ) -> Operation[Job]:
        """Queue a job: a chat with `messages`, or a generation from a `prompt`.

        Other members of Ollama's request (`format`, `system`, `tools`, `think`, …) are passed on as they are. The job
        is on disk when this returns. Without an `idempotency_key` it makes one, so that trying again after a broken
        connection makes no second job; give one of your own to be safe when your own program is started again, too.
        """
        body = job_members(
            model=model, prompt=prompt, messages=messages, options=options, keep_alive=keep_alive, **members
        )
        if job_class is not None:
            body["class"] = job_class
        if webhook is not None:
            body |= _webhook_members(webhook)
        answer = yield from self._ask(_submission(encoded(body), "application/json", checked_key(idempotency_key)))
        return _job(answer)

    def submit_many(
        self, jobs: Iterable[Mapping[str, Any]], *, chunk: int = 500, idempotency_key: str | None = None
    ) -> Items[Job]:
        """Queue many jobs, each a mapping of what `POST /jobs` takes, and hand them out as they are accepted.

        It submits as it is iterated over: at most `chunk` jobs at a time (1,000 at most), of which all are accepted or
        none. An error names the job it is about by its number among all of them; those before its chunk are queued.
        With an `idempotency_key`, the same jobs submitted again in the same order and chunks are the same jobs.
        """
        if not 1 <= chunk <= 1_000:
            raise RequestInvalid("'chunk' must be from 1 to 1,000")
        key, accepted = checked_key(idempotency_key), 0
        for number, lines in enumerate(_batches(jobs, chunk)):
            try:
                answer = yield from self._ask(_submission(b"\n".join(lines), NDJSON, f"{key}-{number}"))
            except ForemanError as error:
                error.args = (_renumbered(str(error), accepted),)
                raise
            for job in understood(answer, _jobs):
                yield Item(job)
            accepted += len(lines)

    def get(self, job_id: str) -> Operation[Job]:
        """The job as it is now. Raises JobNotFound, JobExpired."""
        return _job((yield from self._ask(Request(method="GET", path=job_path(job_id)))))

    def wait(self, job_id: str, *, timeout: float | None = None) -> Operation[Job]:
        """The job as soon as it is over, however it ended: `raise_for_state()` tells. Raises WaitTimeout."""
        path = job_path(job_id)
        deadline = None if timeout is None else self._now() + timeout
        while True:
            left_s = POLL_S if deadline is None else min(POLL_S, max(0.0, deadline - self._now()))
            request = Request(
                method="GET", path=path, params={"wait": f"{left_s:.3f}s"}, silence_s=left_s + self._timeout_s
            )
            job = _job((yield from self._ask(request)))
            if job.finished:
                return job
            if deadline is not None and self._now() >= deadline:
                raise WaitTimeout(f"job {job_id} is still {job.state} after {timeout:g} s", job=job)

    def completion(self, job_id: str, *, timeout: float | None = None) -> Operation[Completion]:
        """The job's answer, waited for. Raises JobFailed or JobCancelled if it has none, WaitTimeout, JobExpired."""
        (yield from self.wait(job_id, timeout=timeout)).raise_for_state()
        answer = yield from self._ask(_artifact(job_id, "completion"))
        return understood(answer, Completion.of)

    def artifact(self, job_id: str, name: str = "completion") -> Operation[bytes]:
        """The bytes of something that the job holds: its `completion`, or the lines of its `stream`."""
        return (yield from self._ask(_artifact(job_id, name))).body

    def cancel(self, job_id: str) -> Operation[Job]:
        """Give the job up; one that is over stays as it is."""
        return _job((yield from self._ask(Request(method="DELETE", path=job_path(job_id)))))

    def retry(self, job_id: str, *, idempotency_key: str | None = None) -> Operation[Job]:
        """A new job with the request of one that is over. Raises IllegalTransition if it is not."""
        headers = {"idempotency-key": checked_key(idempotency_key)}
        return _job((yield from self._ask(Request(method="POST", path=job_path(job_id, "/retry"), headers=headers))))

    def list_jobs(
        self,
        *,
        state: JobState | Sequence[JobState] | None = None,
        model: str | None = None,
        job_class: JobClass | None = None,
        source: Literal["sync", "async"] | None = None,
        endpoint: Literal["chat", "generate"] | None = None,
        page: int = 100,
    ) -> Items[Job]:
        """All jobs that fit, newest first, read a page at a time as they are iterated over."""
        states = state if state is None or isinstance(state, str) else ",".join(state)
        params = given(state=states, model=model, source=source, endpoint=endpoint, limit=page, **{"class": job_class})
        yield from self._pages("/jobs", params, _jobs)

    def job_events(self, job_id: str) -> Operation[list[Event]]:
        """The job's history; it outlives the job's contents."""
        answer = yield from self._ask(Request(method="GET", path=job_path(job_id, "/events")))
        return understood(answer, lambda said: [Event.of(item) for item in said["events"]])


def checked_key(key: str | None) -> str:
    """The idempotency key, or one that nobody else has. Raises RequestInvalid for what cannot be sent."""
    if key is None:
        return uuid4().hex
    # A blank at either end has no place in a header.
    if not key or key != key.strip() or len(key) > LONGEST_KEY or not key.isascii() or not key.isprintable():
        raise RequestInvalid(
            f"an idempotency key must be 1 to {LONGEST_KEY} printable ASCII characters, without a blank at either end"
        )
    return key


def job_members(**members: Any) -> dict[str, Any]:
    """Those members of a job that are not None."""
    return {name: value for name, value in members.items() if value is not None}


def _webhook_members(webhook: Webhook | str) -> dict[str, Any]:
    wanted = Webhook(url=webhook) if isinstance(webhook, str) else webhook
    events = None if wanted.events is None else list(wanted.events)
    return job_members(state_webhook_url=wanted.url, webhook_events=events, webhook_secret=wanted.secret)


def _submission(body: bytes, content_type: str, key: str) -> Request:
    headers = {"content-type": content_type, "idempotency-key": key}
    return Request(method="POST", path="/jobs", headers=headers, body=body)


def _batches(jobs: Iterable[Mapping[str, Any]], most: int) -> Iterator[list[bytes]]:
    """The jobs as lines, so many at a time, or fewer if they are large."""
    lines: list[bytes] = []
    size = 0
    for job in jobs:
        line = encoded(job)
        if lines and (len(lines) == most or size + len(line) > MOST_BATCH_BYTES):
            yield lines
            lines, size = [], 0
        lines.append(line)
        size += len(line)
    if lines:
        yield lines


def _renumbered(message: str, before: int) -> str:
    """A fault of `job 7` of a batch, counted among all jobs."""
    return re.sub(r"^job ([0-9]+):", lambda match: f"job {before + int(match[1])}:", message)


def _artifact(job_id: str, name: str) -> Request:
    if not _ARTIFACT.fullmatch(name):
        raise RequestInvalid(f"{name!r} is no name of an artifact")
    return Request(method="GET", path=job_path(job_id, f"/artifacts/{quote(name, safe='')}"))


def _jobs(said: Any) -> list[Job]:
    return [Job.of(item) for item in said["jobs"]]


def _job(answer: Answer) -> Job:
    return understood(answer, Job.of)
