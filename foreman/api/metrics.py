"""`/metrics`: the metrics for a scraper. What they are and how they are written is no matter of the api's."""

from __future__ import annotations

from sanic import HTTPResponse, Request
from sanic.response import raw

from foreman.api.desk import desk_of


async def metrics(request: Request) -> HTTPResponse:
    """All metrics as Prometheus reads them, or as OpenMetrics if the scraper prefers that."""
    body, content_type = await desk_of(request).render_metrics(request.headers.get("accept", ""))
    return raw(body, content_type=content_type)
