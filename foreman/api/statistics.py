"""`GET /statistics`: what a dashboard shows beside the queue. Figures over time, totals, models, webhooks, the target.

Writes out what others have counted. Each part is bounded, however long the log and however many models or receivers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from heapq import nlargest
from itertools import islice
from typing import Any, Final

import orjson
from sanic import HTTPResponse, Request

from foreman.api.desk import Desk, desk_of
from foreman.api.query import StatisticsQuery, read_query
from foreman.api.render import json_response
from foreman.api.system import target_object
from foreman.clock import Micros
from foreman.events import log
from foreman.events.types import Position
from foreman.projections import deliveries, measures, webhook_totals
from foreman.projections.documents import time
from foreman.projections.measures import OTHER, Measure
from foreman.projections.outbox import Attempt, Outbox
from foreman.projections.statistics import Figures, Measured
from foreman.projections.timeline import Bucket
from foreman.target.names import canonical, identity_of

#: Of each window: the seconds of a point, and how many points there are.
WINDOWS: Final = {"1h": (60, 60), "6h": (300, 72), "24h": (600, 144), "7d": (3_600, 168), "30d": (21_600, 120)}
MOST_RECEIVERS: Final = 20
#: Receivers with something pending that are looked at for these, those that have had something for longest.
RECEIVERS_SEEN: Final = 10_000
#: No event has this position.
NOWHERE: Final = Position(0)
SECOND: Final = 1_000_000
#: Beyond this a count is no whole number of JSON's any more; only a target that makes things up gets there.
LARGEST_WHOLE: Final = 2**53


async def statistics(request: Request) -> HTTPResponse:
    """`GET /statistics`: figures over time, totals, and how models, webhooks and the target stand."""
    desk = desk_of(request)
    window = read_query(StatisticsQuery, request).window
    width_s, count = WINDOWS[window]
    webhooks = await _webhooks(desk)
    now = desk.clock.now()
    points = desk.ledger.timeline.until(now, width_s, count)
    return json_response(
        {
            "window": window,
            "bucket_seconds": width_s,
            "from": time(_begin(points[0], width_s)),
            "to": time(now),
            "points": [_point(bucket, width_s) for bucket in points],
            "totals": _totals(desk),
            "models": _models(desk),
            "webhooks": webhooks,
            "target": _target(desk),
            "log_position": desk.ledger.feed.position,
        }
    )


def _begin(bucket: Bucket, width_s: int) -> Micros:
    return Micros(bucket.number * width_s * SECOND)


def _point(bucket: Bucket, width_s: int) -> dict[str, Any]:
    return {
        "at": time(_begin(bucket, width_s)),
        "submitted": bucket.submitted,
        "done": bucket.done,
        "failed": bucket.failed,
        "cancelled": bucket.cancelled,
        "wait_mean_seconds": _ratio(bucket.wait_s, bucket.runs),
        "wait_longest_seconds": round(bucket.longest_wait_s, 3) if bucket.runs else None,
        "prompt_tokens": _whole(bucket.prompt_tokens),
        "generated_tokens": _whole(bucket.generated_tokens),
        "tokens_per_second": _ratio(bucket.generated_tokens, bucket.generation_s),
        "run_seconds": round(bucket.run_s, 3),
        "swaps": bucket.swaps,
        "load_seconds": round(bucket.load_s, 3),
    }


def _totals(desk: Desk) -> dict[str, float]:
    """Over the whole log."""
    counted = {
        **_counted(desk),
        "swaps": _values(desk, measures.SWAPS),
        "swaps_in_order": _values(desk, measures.SWAPS_IN_ORDER),
        "swaps_avoided": _values(desk, measures.SWAPS_AVOIDED),
        "outages": _values(desk, measures.OUTAGES),
        "stalls": _values(desk, measures.STALLS),
        "starts": _values(desk, measures.STARTS),
    }
    return {name: _whole(sum(values.values())) for name, values in counted.items() if name != "waiting"}


def _counted(desk: Desk) -> dict[str, dict[tuple[str, ...], float]]:
    """What is counted by model, the model being the first label."""
    finished = _values(desk, measures.FINISHED)
    return {
        "waiting": _values(desk, measures.QUEUED),
        "submitted": _values(desk, measures.SUBMITTED),
        **{
            outcome: {labels: value for labels, value in finished.items() if labels[1] == outcome}
            for outcome in ("done", "failed", "cancelled")
        },
        "prompt_tokens": _values(desk, measures.PROMPT_TOKENS),
        "generated_tokens": _values(desk, measures.GENERATED_TOKENS),
    }


def _values(desk: Desk, measure: Measure) -> dict[tuple[str, ...], float]:
    return desk.ledger.tally.series.values.get(measure.name, {})


def _models(desk: Desk) -> list[dict[str, Any]]:
    """The models that jobs were for, those in memory first, then those that most wait for; the last ones as one."""
    listed, resident, figures = desk.inventory.listing.models, _resident(desk), _figures(desk)
    digests = {name: listed[name].digest if name in listed else None for name in desk.ledger.tally.models}
    # What is in memory though no job was for it has no counts, but its place.
    for digest in resident.keys() - set(digests.values()):
        name = desk.inventory.name_of(digest)
        digests[canonical(name) if name else digest] = digest
    digests[OTHER] = None
    counts = {name: dict.fromkeys(_counted(desk), 0.0) for name in digests}
    for what, values in _counted(desk).items():
        for (model, *_), value in values.items():
            counts[model][what] += value
    if not counts[OTHER]["submitted"]:
        del digests[OTHER]

    def order(entry: tuple[str, str | None]) -> tuple[bool, bool, float, float, str]:
        model, digest = entry
        own = counts[model]
        return (model == OTHER, digest not in resident, -own["waiting"], -own["submitted"], model)

    return [
        {
            "model": model,
            "digest": digest,
            "resident": digest in resident,
            "expires_at": resident.get(digest or ""),
            **{what: _whole(count) for what, count in counts[model].items()},
            **_measured(figures.get(digest or model, ())),
        }
        for model, digest in sorted(digests.items(), key=order)
    ]


def _measured(figures: Sequence[Figures]) -> dict[str, float | None]:
    """What was measured of a model, however it was loaded: each way counts as often as it was measured."""
    return {
        "load_mean_seconds": _mean(one.load_s for one in figures),
        "run_mean_seconds": _mean(one.run_s for one in figures),
        "tokens_per_second": _mean(one.tokens_per_s for one in figures),
    }


def _resident(desk: Desk) -> dict[str, str | None]:
    """The digests of the models that the target holds in memory, and until when, as it says."""
    if not desk.inventory.up:
        return {}
    listing, key = desk.inventory.listing, desk.residency.key
    found: dict[str, str | None] = {} if key is None else {identity_of(key): None}
    for entry in orjson.loads(listing.ps)["models"] or ():
        until = entry.get("expires_at")
        digest = str(entry.get("digest") or canonical(str(entry["name"])))
        found[digest] = until if isinstance(until, str) else None
    return found


def _figures(desk: Desk) -> dict[str, list[Figures]]:
    """What has been measured of each model, however it was loaded."""
    found: dict[str, list[Figures]] = {}
    for load_key, figures in desk.ledger.statistics.by_key.items():
        found.setdefault(identity_of(load_key), []).append(figures)
    return found


async def _webhooks(desk: Desk) -> dict[str, Any]:
    """How deliveries stand, and with which receivers they stand worst."""
    outbox = desk.ledger.outbox
    totals = await webhook_totals.totals(desk.read)
    dead = await webhook_totals.dead_by_receiver(desk.read)
    shown = {receiver: outbox.sample(receiver) for receiver in _worst(outbox, dead)}
    newest_dead = {receiver: newest for receiver, (_, newest) in dead.items()}
    oldest = {receiver: min(sample) for receiver, sample in shown.items() if sample}
    times = await log.times(desk.read, oldest.values())
    last = await _last_attempts(desk, shown, newest_dead)
    return {
        "pending": outbox.pending,
        **{name: totals[name] for name in (*webhook_totals.RESULTS, "dead")},
        "receivers": [
            {
                "receiver": receiver,
                "pending": outbox.pending_of.get(receiver, 0),
                "oldest_pending_at": time(times.get(oldest.get(receiver, NOWHERE))),
                "dead": dead[receiver][0] if receiver in dead else 0,
                "last_attempt_at": time(last[receiver].at) if receiver in last else None,
                "last_error": last[receiver].error if receiver in last else None,
                "last_status": last[receiver].status if receiver in last else None,
            }
            for receiver in shown
        ],
    }


def _worst(outbox: Outbox, dead: Mapping[str, tuple[int, Position]]) -> list[str]:
    """The receivers with the most that was given up or is still to be told."""
    pending = dict(islice(outbox.pending_of.items(), RECEIVERS_SEEN))
    longest = nlargest(MOST_RECEIVERS, pending, key=pending.__getitem__)

    def badness(receiver: str) -> int:
        return (dead[receiver][0] if receiver in dead else 0) + outbox.pending_of.get(receiver, 0)

    return nlargest(MOST_RECEIVERS, dict.fromkeys([*dead, *longest]), key=badness)


async def _last_attempts(
    desk: Desk, samples: Mapping[str, Sequence[Position]], newest_dead: Mapping[str, Position]
) -> dict[str, Attempt]:
    """The last attempt at each of these receivers, among those at what is due soonest or latest and what is dead."""
    asked = {
        position: receiver
        for receiver, sample in samples.items()
        for position in (*sample[:1], *sample[-1:], newest_dead.get(receiver, NOWHERE))
    }
    found: dict[str, Attempt] = {}
    for position, (attempt,) in (await deliveries.last_attempts(desk.read, asked)).items():
        receiver = asked[position]
        found[receiver] = max(attempt, found.get(receiver, attempt), key=lambda one: one.at)
    return found


def _target(desk: Desk) -> dict[str, Any]:
    """As `/healthz` has it, with where it is and how long it has been away."""
    health = desk.inventory.health
    return {
        "url": desk.settings.ollama_url,
        **target_object(health),
        "degraded": health.up is not True,
        "degraded_since": time(health.away_since),
        "stalled": time(health.stalled_since),
    }


def _mean(measured: Iterable[Measured]) -> float | None:
    """The mean of several means; None if nothing was measured."""
    known = [one for one in measured if one.count]
    count = sum(one.count for one in known)
    return round(sum(one.mean * one.count for one in known) / count, 3) if count else None


def _ratio(amount: float, of: float) -> float | None:
    return round(amount / of, 3) if of else None


def _whole(count: float) -> float:
    return int(count) if abs(count) < LARGEST_WHOLE else count
