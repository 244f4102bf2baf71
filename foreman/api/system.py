"""`/healthz`: what a probe, and a person with curl, want to know. Open without a token, so it names no job."""

from __future__ import annotations

from typing import Any

from sanic import HTTPResponse, Request

from foreman import __version__
from foreman.api.desk import desk_of
from foreman.api.render import json_response
from foreman.clock import seconds_between
from foreman.projections.documents import time
from foreman.storage.database import SQLITE_VERSION
from foreman.target.inventory import Health


def target_object(health: Health) -> dict[str, Any]:
    """Whether the target answers."""
    return {
        "reachable": health.up,
        "version": health.version or None,
        "last_success": time(health.last_success),
        "error": health.error or None,
    }


async def healthz(request: Request) -> HTTPResponse:
    """200 as long as foreman serves: a target that is away is normal, and told apart by `degraded`."""
    desk = desk_of(request)
    health, work = desk.inventory.health, desk.ledger.work
    return json_response(
        {
            "status": "stopping" if desk.draining else "ok",
            "degraded": health.up is not True,
            "degraded_since": time(health.away_since),
            "stalled": time(health.stalled_since),
            "target": target_object(health),
            "queue": {"waiting": len(work.queue), "running": len(work.running)},
            "webhooks": {"pending": desk.ledger.outbox.pending},
            "log_position": desk.ledger.feed.position,
            "uptime_seconds": seconds_between(desk.started_at, desk.clock.now()),
            "version": __version__,
            "sqlite_version": SQLITE_VERSION,
        }
    )
