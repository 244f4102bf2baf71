"""From a request to queued jobs: idempotency keys, submissions, and models that must be there."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import orjson
from msgspec import structs
from sanic import Request
from ulid import ULID

from foreman.api.desk import Desk
from foreman.commands.ledger import Outcome
from foreman.commands.types import Submission, SubmitJobs
from foreman.destinations import parse_url
from foreman.errors import AddressRefused, ModelNotFound, NotReady, RequestInvalid
from foreman.events.types import Endpoint, IdempotencyKey, JobClass, JobQueued, Source, Webhook
from foreman.projections import contents
from foreman.projections.contents import artifact
from foreman.target.inventory import Model
from foreman.target.names import LONGEST_NAME, load_key
from foreman.target.requests import Generation

LONGEST_KEY = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """How a job came in."""

    endpoint: Endpoint
    source: Source
    job_class: JobClass
    idempotency: IdempotencyKey | None = None
    retry_of: str | None = None
    webhook: Webhook | None = None
    webhook_secret: str | None = None


def submission(desk: Desk, generation: Generation, model: Model, origin: Origin) -> Submission:
    """A new job for this request, with an id of its own."""
    body = artifact(contents.REQUEST, contents.JSON, generation.body)
    given = generation.model or ""
    queued = JobQueued(
        # A name is found with any blanks around it, or any scheme before it; the log keeps what it is given for ever.
        model=given if 0 < len(given) <= LONGEST_NAME else model.name,
        load_key=load_key(model.digest, generation.options),
        endpoint=origin.endpoint,
        source=origin.source,
        job_class=origin.job_class,
        stream=generation.stream,
        request=body.ref,
        max_attempts=desk.settings.max_attempts,
        idempotency=origin.idempotency,
        retry_of=origin.retry_of,
        webhook=origin.webhook,
    )
    return Submission(job_id=str(ULID()), queued=queued, body=body, webhook_secret=origin.webhook_secret)


async def queue_jobs(desk: Desk, wanted: Sequence[tuple[Generation, Origin]], key: IdempotencyKey | None) -> Outcome:
    """Queue all of these or none, or find those that the key stands for.

    Raises AddressRefused, ModelNotFound, NotReady, QueueFull, IdempotencyMismatch, StorageFull.
    """
    try:
        await _look_over(desk, [origin.webhook for _, origin in wanted])
        models = await _models(desk, [generation.model or "" for generation, _ in wanted])
    except (AddressRefused, ModelNotFound, NotReady):
        # A repeat is answered as it was the first time, even if its model has gone or its address is refused since.
        outcome = None if key is None else await desk.ledger.execute(_submit((), key))
        if outcome is None or not outcome.repeated:
            raise
        return outcome
    new = [
        submission(
            desk,
            generation,
            model,
            origin if key is None else replace(origin, idempotency=structs.replace(key, ordinal=ordinal)),
        )
        for ordinal, ((generation, origin), model) in enumerate(zip(wanted, models, strict=True))
    ]
    return await desk.ledger.execute(_submit(new, key))


def _submit(new: Iterable[Submission], key: IdempotencyKey | None) -> SubmitJobs:
    return SubmitJobs(submissions=tuple(new), key=key.key if key else None, fingerprint=key.fingerprint if key else "")


async def _look_over(desk: Desk, webhooks: Sequence[Webhook | None]) -> None:
    """Raises AddressRefused for a webhook that foreman would never send. Each attempt is judged anew."""
    first: dict[str, int] = {}
    for index, webhook in enumerate(webhooks, start=1):
        if webhook is not None:
            first.setdefault(webhook.url, index)
    refusals = await asyncio.gather(*(_refusal(desk, url) for url in first))
    for index, refusal in zip(first.values(), refusals, strict=True):
        if refusal is not None:
            raise AddressRefused(f"{_numbered(index, webhooks)}{refusal}")


async def _refusal(desk: Desk, url: str) -> str | None:
    try:
        await desk.destinations.look_over(parse_url(url))
    except (AddressRefused, ValueError) as refusal:  # the URL of a job that is retried met the rules of its time
        return str(refusal)
    return None


def _numbered(index: int, jobs: Sequence[object]) -> str:
    """Which one is meant, if there are several."""
    return f"job {index}: " if len(jobs) > 1 else ""


async def _models(desk: Desk, names: Sequence[str]) -> list[Model]:
    found: dict[str, Model] = {}
    for index, name in enumerate(names, start=1):
        if name not in found:
            model = await desk.find_model(name)
            if model is None:
                raise ModelNotFound(f"{_numbered(index, names)}model '{name}' not found")
            found[name] = model
    return [found[name] for name in names]


def idempotency_key(request: Request, scope: str) -> IdempotencyKey | None:
    """The request's `Idempotency-Key`, bare or quoted, with the fingerprint of what it was sent with.

    Keys of different routes do not meet: `scope` is part of the key. Raises RequestInvalid.
    """
    given = request.headers.get("idempotency-key")
    if given is None:
        return None
    key = given.strip()
    if len(key) >= 2 and key[0] == key[-1] == '"':
        key = key[1:-1]
    if not key or len(key) > LONGEST_KEY or not key.isprintable() or not key.isascii():
        raise RequestInvalid(f"Idempotency-Key must be 1 to {LONGEST_KEY} printable ASCII characters")
    return IdempotencyKey(key=f"{scope}:{key}", fingerprint=fingerprint(request.body))


def fingerprint(body: bytes) -> str:
    """A digest that is equal for bodies that mean the same: key order and white space do not count.

    Webhook secrets are left out: the log keeps the digest for ever, and a weak secret could be guessed from it.
    """
    # What only Go takes for JSON: there the bytes themselves count.
    with suppress(orjson.JSONDecodeError, TypeError):
        body = orjson.dumps(_without_secrets(_decoded(body)), option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(body).hexdigest()


def _decoded(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return [orjson.loads(line) for line in body.split(b"\n") if line.strip()]


def _without_secrets(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_secrets(item) for item in value]
    if isinstance(value, dict):
        return {name: item for name, item in value.items() if name != "webhook_secret"}
    return value
