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
from foreman.api.query import LARGEST_POSITION, DeliveriesQuery, cursor, position_in, read_query
from foreman.api.render import delivery_object, json_response
from foreman.clock import Micros
from foreman.commands.types import Redeliver
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

Body = TypeVar("Body", bound=BaseModel)


class RedeliverOne(BaseModel):
    """`POST /jobs/{id}/deliveries/redeliver`: one delivery, or those of a state, or without either all."""

    model_config = ConfigDict(extra="forbid", strict=True)

    id: str | None = Field(None, max_length=100)
    state: Literal["delivered", "dead", "gone"] | None = None


class RedeliverRange(BaseModel):
    """`POST /deliveries/redeliver`: deliveries whose events are in a range, of positions or times, ends included."""

    model_config = ConfigDict(extra="forbid", strict=True)

    state: Literal["delivered", "dead", "gone"] = "dead"
    receiver: str | None = Field(None, min_length=1, max_length=300)
    first_position: int | None = Field(None, ge=0, le=LARGEST_POSITION)
    last_position: int | None = Field(None, ge=0, le=LARGEST_POSITION)
    since: AwareDatetime | None = None
    until: AwareDatetime | None = None


async def of_job(request: Request, job_id: str) -> HTTPResponse:
    """`GET /jobs/{id}/deliveries`: the job's webhooks in order, each with all of its attempts."""
    desk = desk_of(request)
    job = await find_job(desk, job_id)
    found = await deliveries.page(desk.read, DeliveryFilter(job_id=job.job_id, limit=MOST_OF_A_JOB))
    return await _shown(desk, found)


async def redeliver_of_job(request: Request, job_id: str) -> HTTPResponse:
    """`POST /jobs/{id}/deliveries/redeliver`: send one of the job's webhooks once more, or all of them."""
    desk = desk_of(request)
    job = await find_present(desk, job_id)
    wanted = _read(RedeliverOne, request)
    found = await deliveries.page(desk.read, DeliveryFilter(job_id=job.job_id, limit=MOST_OF_A_JOB))
    if wanted.id is not None:
        found = [item for item in found if message_id(item.job_id, item.version) == wanted.id]
        if not found:
            raise DeliveryNotFound
    states = {Status(wanted.state)} if wanted.state else set(Status) - {Status.PENDING}
    ended = [item for item in found if item.status in states]
    await desk.ledger.execute(Redeliver(job_id=job.job_id, positions=tuple(item.position for item in ended)))
    return json_response({"redelivered": len(ended)}, status=HTTPStatus.ACCEPTED)


async def list_deliveries(request: Request) -> HTTPResponse:
    """`GET /deliveries`: newest first, a page at a time; `?state=dead` for those that were given up."""
    desk = desk_of(request)
    query = read_query(DeliveriesQuery, request)
    before = position_in(query.cursor)
    wanted = DeliveryFilter(
        status=Status(query.state) if query.state else None,
        receiver=query.receiver and query.receiver.lower(),
        last=None if before is None else before - 1,
        newest_first=True,
        limit=query.limit + 1,
    )
    found = await deliveries.page(desk.read, wanted)
    page = found[: query.limit]
    return await _shown(desk, page, following=cursor(page[-1].position) if len(found) > query.limit else None)


async def redeliver(request: Request) -> HTTPResponse:
    """`POST /deliveries/redeliver`: send every webhook of a range once more, those that were given up by default."""
    desk = desk_of(request)
    given = _read(RedeliverRange, request)
    wanted = DeliveryFilter(
        status=Status(given.state),
        receiver=given.receiver and given.receiver.lower(),
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


async def _shown(desk: Desk, found: list[Delivery], following: str | None = None) -> HTTPResponse:
    attempts = await deliveries.attempts(desk.read, [item.position for item in found])
    shown = [delivery_object(item, attempts.get(item.position, ())) for item in found]
    return json_response({"deliveries": shown, "next": following})


def _read(shape: type[Body], request: Request) -> Body:
    """The body as that shape; an empty one says nothing. Raises RequestInvalid naming every fault."""
    try:
        return shape.model_validate_json(request.body or b"{}")
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, detail['loc'])) or 'the body'}: {detail['msg']}" for detail in error.errors()]
        raise RequestInvalid("; ".join(faults)) from error


def _micros(at: datetime) -> Micros:
    return Micros(round(at.timestamp() * 1_000_000))
