"""`/deliveries`, and those of one job: what became of webhooks, attempt by attempt, and having them sent once more."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from http import HTTPStatus
from typing import Final, Literal, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError
from sanic import HTTPResponse, Request

from foreman.api.desk import Desk, desk_of
from foreman.api.jobs import find_job, find_present
from foreman.api.query import LARGEST_POSITION, DeliveriesQuery, NoQuery, cursor, position_in, read_query
from foreman.api.render import delivery_object, json_response
from foreman.api.submissions import faults
from foreman.clock import Micros
from foreman.commands.types import Redeliver
from foreman.destinations import parse_url
from foreman.errors import DeliveryNotFound, JobExpired, RequestInvalid
from foreman.events import log
from foreman.events.types import Position
from foreman.projections import deliveries
from foreman.projections.deliveries import Delivery, DeliveryFilter, message_id
from foreman.projections.outbox import Status

#: A job has fewer events than this.
MOST_OF_A_JOB: Final = 1_000
#: Deliveries revived in one step, so that the ledger is free for others in between.
STEP: Final = 500

DeliveryState = Literal["pending", "delivered", "dead", "gone"]
Body = TypeVar("Body", bound=BaseModel)


class RedeliverOne(BaseModel):
    """`POST /jobs/{id}/deliveries/redeliver`: one delivery, or those of a state, or without either all."""

    model_config = ConfigDict(extra="forbid", strict=True)

    id: str | None = Field(None, max_length=100)
    state: DeliveryState | None = None


class RedeliverRange(BaseModel):
    """`POST /deliveries/redeliver`: deliveries whose events are in a range, of positions or times, ends included."""

    model_config = ConfigDict(extra="forbid", strict=True)

    state: DeliveryState = "dead"
    receiver: str | None = Field(None, min_length=1, max_length=300)
    first_position: int | None = Field(None, ge=0, le=LARGEST_POSITION)
    last_position: int | None = Field(None, ge=0, le=LARGEST_POSITION)
    since: AwareDatetime | None = None
    until: AwareDatetime | None = None


async def of_job(request: Request, job_id: str) -> HTTPResponse:
    """`GET /jobs/{id}/deliveries`: the job's webhooks in order, each with all of its attempts."""
    desk = desk_of(request)
    read_query(NoQuery, request)
    job = await find_job(desk, job_id)
    found = await deliveries.page(desk.read, DeliveryFilter(job_id=job.job_id, limit=MOST_OF_A_JOB))
    attempts = await deliveries.attempts(desk.read, [item.position for item in found])
    shown, first = [], None
    for item in found:
        pending = item.status is Status.PENDING
        shown.append(delivery_object(item, attempts.get(item.position, ()), waits_for=first if pending else None))
        if pending and first is None:
            first = message_id(item.job_id, item.version)
    return json_response({"deliveries": shown})


async def redeliver_of_job(request: Request, job_id: str) -> HTTPResponse:
    """`POST /jobs/{id}/deliveries/redeliver`: send one of the job's webhooks now, or all of them."""
    desk = desk_of(request)
    job = await find_present(desk, job_id)
    wanted = _read(RedeliverOne, request)
    found = await deliveries.page(desk.read, DeliveryFilter(job_id=job.job_id, limit=MOST_OF_A_JOB))
    if wanted.id is not None:
        found = [item for item in found if message_id(item.job_id, item.version) == wanted.id]
        if not found:
            raise DeliveryNotFound
    positions = tuple(item.position for item in found if wanted.state in {None, item.status.value})
    await desk.ledger.execute(Redeliver(job_id=job.job_id, positions=positions))
    return json_response({"redelivered": len(positions)}, status=HTTPStatus.ACCEPTED)


async def list_deliveries(request: Request) -> HTTPResponse:
    """`GET /deliveries`: newest first, each with its last attempt; `?state=dead` for those that were given up."""
    desk = desk_of(request)
    query = read_query(DeliveriesQuery, request)
    before = position_in(query.cursor)
    wanted = DeliveryFilter(
        status=Status(query.state) if query.state else None,
        receiver=_receiver(query.receiver),
        last=None if before is None else before - 1,
        newest_first=True,
        limit=query.limit + 1,
    )
    found = await deliveries.page(desk.read, wanted)
    page = found[: query.limit]
    attempts = await deliveries.last_attempts(desk.read, [item.position for item in page])
    shown = [delivery_object(item, attempts.get(item.position, ())) for item in page]
    following = cursor(page[-1].position) if len(found) > query.limit else None
    return json_response({"deliveries": shown, "next": following})


async def redeliver(request: Request) -> HTTPResponse:
    """`POST /deliveries/redeliver`: send a range of webhooks now; those that were given up, unless it says."""
    desk = desk_of(request)
    given = _read(RedeliverRange, request)
    wanted = DeliveryFilter(
        status=Status(given.state),
        receiver=_receiver(given.receiver),
        first=given.first_position,
        last=given.last_position,
        limit=STEP,
    )
    if given.since is not None:
        since = await log.position_at(desk.read, _micros(given.since))
        wanted = replace(wanted, first=max(since, wanted.first or 0))
    if given.until is not None:
        until = await log.position_at(desk.read, Micros(_micros(given.until) + 1)) - 1
        wanted = replace(wanted, last=until if wanted.last is None else min(until, wanted.last))
    count = 0
    while found := await deliveries.page(desk.read, wanted):
        count += await _revive(desk, found)
        wanted = replace(wanted, first=found[-1].position + 1)
    return json_response({"redelivered": count}, status=HTTPStatus.ACCEPTED)


def _receiver(given: str | None) -> str | None:
    """A receiver's name, `host:port`, from that or from its URL. Raises RequestInvalid."""
    if given is None:
        return None
    try:
        return parse_url(given if "://" in given else f"http://{given}").receiver
    except ValueError as error:
        raise RequestInvalid(f"'receiver' must be host:port or a URL: {error}") from error


async def _revive(desk: Desk, found: Iterable[Delivery]) -> int:
    """Have these delivered once more; how many. A job that has expired meanwhile has none, which stops no other."""
    positions: defaultdict[str, list[Position]] = defaultdict(list)
    for item in found:
        positions[item.job_id].append(item.position)

    async def revive(job_id: str, own: list[Position]) -> int:
        try:
            await desk.ledger.execute(Redeliver(job_id=job_id, positions=tuple(own)))
        except JobExpired:
            return 0
        return len(own)

    return sum(await asyncio.gather(*(revive(job_id, own) for job_id, own in positions.items())))


def _read(shape: type[Body], request: Request) -> Body:
    """The body as that shape; an empty one says nothing. Raises RequestInvalid naming the faults."""
    try:
        return shape.model_validate_json(request.body or b"{}")
    except ValidationError as error:
        raise RequestInvalid(faults(error.errors())) from error


def _micros(at: datetime) -> Micros:
    return Micros(round(at.timestamp() * 1_000_000))
