"""Operations on the daemon itself: its queue, its models, its webhooks, its figures. Does no I/O: see `core`."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from foreman.client.core import Core, Item, Items, Operation, Request, given, job_path, understood
from foreman.client.state import Head, Health, Model, Queue, ResidentModel, Statistics
from foreman.client.types import Delivery, DeliveryState, StatisticsWindow
from foreman.client.wire import encoded

_JSON = {"content-type": "application/json"}


class Daemon(Core):
    """What can be asked about the daemon."""

    def queue(self, *, limit: int = 10) -> Operation[Queue]:
        """What runs, and what waits in the order it will run: up to `limit` jobs of each model."""
        return understood((yield from self._get("/queue", limit=limit)), Queue.of)

    def ps(self) -> Operation[list[ResidentModel]]:
        """The models that are loaded, as last seen."""
        answer = yield from self._get("/api/ps")
        return understood(answer, lambda said: [ResidentModel.of(item) for item in said["models"] or ()])

    def models(self) -> Operation[list[Model]]:
        """The models that the Ollama server has, as last seen."""
        answer = yield from self._get("/api/tags")
        return understood(answer, lambda said: [Model.of(item) for item in said["models"] or ()])

    def health(self) -> Operation[Health]:
        """How foreman and its Ollama server do; needs no token."""
        return understood((yield from self._get("/healthz")), Health.of)

    def statistics(self, window: StatisticsWindow = "1h") -> Operation[Statistics]:
        """What was done in the last hour, or as long as `window` says."""
        return understood((yield from self._get("/statistics", window=window)), Statistics.of)

    def audit_head(self) -> Operation[Head]:
        """Where the log ends, for whoever is its witness."""
        return understood((yield from self._get("/audit/head")), Head.of)

    def deliveries(
        self,
        job_id: str | None = None,
        *,
        state: DeliveryState | None = None,
        receiver: str | None = None,
        page: int = 100,
    ) -> Items[Delivery]:
        """Webhooks: of one job in their order with all attempts, or of all jobs, newest first, with the last attempt.

        `receiver` is `host:port`.
        """
        if job_id is None:
            yield from self._pages("/deliveries", given(state=state, receiver=receiver, limit=page), _deliveries)
            return
        for item in understood((yield from self._get(job_path(job_id, "/deliveries"))), _deliveries):
            if state in {None, item.state} and receiver in {None, item.receiver}:
                yield Item(item)

    def redeliver(
        self, job_id: str, *, delivery_id: str | None = None, state: DeliveryState | None = None
    ) -> Operation[int]:
        """Send webhooks of a job once more: one, those in a state, or all of them. How many."""
        return (yield from self._post(job_path(job_id, "/deliveries/redeliver"), id=delivery_id, state=state))

    def redeliver_all(
        self,
        *,
        state: DeliveryState = "dead",
        receiver: str | None = None,
        first_position: int | None = None,
        last_position: int | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Operation[int]:
        """Send webhooks across jobs once more: those in a state, with events in a range, ends included. How many."""
        return (
            yield from self._post(
                "/deliveries/redeliver",
                state=state,
                receiver=receiver,
                first_position=first_position,
                last_position=last_position,
                since=None if since is None else since.astimezone().isoformat(),
                until=None if until is None else until.astimezone().isoformat(),
            )
        )

    def _get(self, path: str, **params: str | int | None) -> Operation[Any]:
        return (yield from self._ask(Request(method="GET", path=path, params=given(**params))))

    def _post(self, path: str, **members: Any) -> Operation[int]:
        body = encoded(given(**members))
        # Not repeated once it may have arrived: a webhook would be sent twice without need.
        request = Request(method="POST", path=path, headers=_JSON, body=body, repeatable=False)
        answer = yield from self._ask(request)
        return understood(answer, lambda said: int(said["redelivered"]))


def _deliveries(said: Any) -> list[Delivery]:
    return [Delivery.of(item) for item in said["deliveries"]]
