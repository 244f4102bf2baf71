"""From a request to something the ledger can queue: idempotency keys and submissions."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass

import orjson
from sanic import Request
from ulid import ULID

from foreman.api.desk import Desk
from foreman.commands.types import Submission
from foreman.errors import RequestInvalid
from foreman.events.types import Endpoint, IdempotencyKey, JobClass, JobQueued, Source
from foreman.projections import contents
from foreman.projections.contents import artifact
from foreman.target.inventory import Model
from foreman.target.names import load_key
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


def submission(desk: Desk, generation: Generation, model: Model, origin: Origin) -> Submission:
    """A new job for this request, with an id of its own."""
    body = artifact(contents.REQUEST, contents.JSON, generation.body)
    queued = JobQueued(
        model=generation.model or model.name,
        load_key=load_key(model.digest, generation.options),
        endpoint=origin.endpoint,
        source=origin.source,
        job_class=origin.job_class,
        stream=generation.stream,
        request=body.ref,
        max_attempts=desk.settings.max_attempts,
        idempotency=origin.idempotency,
        retry_of=origin.retry_of,
    )
    return Submission(job_id=str(ULID()), queued=queued, body=body)


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
    """A digest that is equal for bodies that mean the same: key order and white space do not count."""
    # NDJSON, and what only Go takes for JSON: there the bytes themselves count.
    with suppress(orjson.JSONDecodeError, TypeError):
        body = orjson.dumps(orjson.loads(body), option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(body).hexdigest()
