"""For the tests of programs that take foreman's webhooks: a real receiver, in a thread. Not for production use.

::

    with WebhookReceiver(secret) as receiver:
        job = client.submit(model="llama3.2", prompt="Hello", webhook=Webhook(url=receiver.url, secret=secret))
        told = receiver.wait_for(job.job_id, "done")
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Final, Self

from foreman.client.signatures import SignatureInvalid, verify_signature

#: A completion is no larger than a request may be.
LARGEST_BODY: Final = 512 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedWebhook:
    """A webhook that came, for the first time and rightly signed."""

    #: Its `webhook-id`.
    id: str
    job_id: str
    state: str
    version: int
    #: All that it says.
    payload: Mapping[str, Any] = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


class WebhookReceiver:
    """Takes webhooks at `url` and keeps them, each once, in the order they came.

    With a secret it answers 401 to what is not signed with it, and says in `refused` why. Port 0 is any that is free.
    """

    def __init__(self, secret: str | None = None, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self._secret = secret
        self._place = (host, port)
        self._server: ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None
        self._came = threading.Condition()
        self._deliveries: dict[str, ReceivedWebhook] = {}
        self._refused: list[str] = []

    @property
    def url(self) -> str:
        """Where it listens."""
        if self._server is None:
            raise RuntimeError("the receiver is not open")
        host, port = self._server.server_address[:2]
        return f"http://{host!s}:{port}/hook"

    @property
    def deliveries(self) -> list[ReceivedWebhook]:
        """What came so far."""
        with self._came:
            return list(self._deliveries.values())

    @property
    def refused(self) -> list[str]:
        """Why deliveries were refused."""
        with self._came:
            return list(self._refused)

    def wait_for(self, job_id: str, state: str, timeout: float = 30.0) -> ReceivedWebhook:
        """The webhook that tells that the job is in this state, as soon as it has come. Raises TimeoutError."""
        with self._came:
            if not self._came.wait_for(lambda: self._found(job_id, state), timeout):
                told = ", ".join(item.state for item in self._deliveries.values() if item.job_id == job_id)
                refused = f"; refused: {self._refused[-1]}" if self._refused else ""
                message = f"no webhook told within {timeout:g} s that {job_id} is {state}; it told: {told or 'nothing'}"
                raise TimeoutError(message + refused)
            found = self._found(job_id, state)
            assert found is not None
            return found

    async def arrival(self, job_id: str, state: str, timeout: float = 30.0) -> ReceivedWebhook:  # noqa: ASYNC109
        """The same as `wait_for`, to be awaited."""
        return await asyncio.to_thread(self.wait_for, job_id, state, timeout)

    def _found(self, job_id: str, state: str) -> ReceivedWebhook | None:
        fits = (item for item in self._deliveries.values() if (item.job_id, item.state) == (job_id, state))
        return next(fits, None)

    def open(self) -> None:
        """Listen."""
        receiver = self

        class Handler(_Handler):
            """Hands on to this receiver."""

            take: Callable[[bytes, Mapping[str, str]], int] = staticmethod(receiver._take)

        self._server = ThreadingHTTPServer(self._place, Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), name="webhook-receiver", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop listening; what came is kept."""
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()
            self._server = self._thread = None

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _take(self, body: bytes, headers: Mapping[str, str]) -> int:
        """Keep a delivery; the status to answer with."""
        try:
            if self._secret is not None:
                verify_signature(body, headers, self._secret)
            payload = json.loads(body)
            webhook = ReceivedWebhook(
                id=headers["webhook-id"],
                job_id=payload["job_id"],
                state=payload["state"],
                version=payload["version"],
                payload=payload,
                headers=headers,
                body=body,
            )
        except SignatureInvalid as fault:
            return self._refuse(401, str(fault))
        except (ValueError, KeyError, TypeError) as fault:
            return self._refuse(400, f"this is no webhook of foreman's: {type(fault).__name__} {fault}")
        with self._came:
            self._deliveries.setdefault(webhook.id, webhook)
            self._came.notify_all()
        return 200

    def _refuse(self, status: int, why: str) -> int:
        with self._came:
            self._refused.append(why)
        return status


class _Handler(BaseHTTPRequestHandler):
    """One connection, which has one request."""

    timeout = 30
    take: Callable[[bytes, Mapping[str, str]], int]

    def do_POST(self) -> None:
        """Take one webhook."""
        length = self.headers.get("content-length", "")
        if not length.isdecimal() or int(length) > LARGEST_BODY:
            self._answer(411)
            return
        body = self.rfile.read(int(length))
        self._answer(self.take(body, {name.lower(): value for name, value in self.headers.items()}))

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing: a test's output is its own."""

    def _answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()
