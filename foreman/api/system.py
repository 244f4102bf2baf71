"""`/healthz`: what a probe, and a person with curl, want to know. Open without a token, so it names no job."""

from __future__ import annotations

from typing import Any, Final

import orjson
from sanic import HTTPResponse, Request
from sanic.response import raw

from foreman import __version__
from foreman.api.desk import desk_of
from foreman.clock import Micros, rfc3339, seconds_between
from foreman.storage.database import SQLITE_VERSION

JSON: Final = "application/json"


async def healthz(request: Request) -> HTTPResponse:
    """200 as long as foreman serves: a target that is away is normal, and told apart by `degraded`."""
    desk = desk_of(request)
    health, work = desk.inventory.health, desk.ledger.work
    return raw(
        orjson.dumps(
            {
                "status": "stopping" if desk.draining else "ok",
                "degraded": health.up is not True,
                "degraded_since": _time(health.away_since),
                "target": {
                    "reachable": health.up,
                    "version": health.version or None,
                    "last_success": _time(health.last_success),
                    "error": health.error or None,
                },
                "queue": {"waiting": len(work.queue), "running": len(work.running)},
                "log_position": desk.ledger.feed.position,
                "uptime_seconds": seconds_between(desk.started_at, desk.clock.now()),
                "version": __version__,
                "sqlite_version": SQLITE_VERSION,
            }
        ),
        content_type=JSON,
    )


def _time(at: Micros | None) -> Any:
    return None if at is None else rfc3339(at)
