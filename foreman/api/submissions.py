"""What `POST /jobs` takes: one job or many, each checked in full before any of them is queued."""

from __future__ import annotations

import json
from typing import Any, Final, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from foreman.errors import RequestInvalid, TooLarge
from foreman.events.types import Endpoint, JobClass
from foreman.target.requests import Generation, read_generation

NDJSON: Final = ("application/x-ndjson", "application/jsonl", "application/ndjson")
MOST_JOBS: Final = 10_000
#: Members of a job that are foreman's and not the target's.
OURS: Final = ("class", "endpoint")
#: The Go daemon's member for webhooks. Saying nothing would be worse than refusing: its caller would wait for ever.
NOT_YET: Final = ("state_webhook_url", "webhook_events", "webhook_secret")


class JobSpec(BaseModel):
    """One job as its caller wrote it: a native chat or generate request, and what foreman adds."""

    model_config = ConfigDict(extra="allow", strict=True, hide_input_in_errors=True)

    model: str = Field(min_length=1, max_length=512)
    endpoint: Literal["chat", "generate"] | None = None
    job_class: Literal["batch", "interactive"] = Field("batch", alias="class")
    messages: list[dict[str, Any]] | None = None
    prompt: str | None = None
    options: dict[str, Any] | None = None
    keep_alive: int | float | str | None = None
    stream: bool | None = None

    @property
    def target(self) -> Endpoint:
        """The route it is for: as it says, else as its members suggest."""
        if self.endpoint is not None:
            return Endpoint(self.endpoint)
        return Endpoint.GENERATE if self.prompt is not None and self.messages is None else Endpoint.CHAT

    @property
    def class_(self) -> JobClass:
        """Who waits for it."""
        return JobClass(self.job_class)


def read_submissions(body: bytes, content_type: str) -> tuple[list[tuple[JobSpec, Generation]], bool]:
    """The jobs in a body, and whether it was a batch (an array or NDJSON). Raises RequestInvalid naming every fault."""
    items, batch = _items(body, content_type)
    if len(items) > MOST_JOBS:
        raise TooLarge(f"a batch may hold {MOST_JOBS:,} jobs; this one holds {len(items):,}")
    if not items:
        raise RequestInvalid("the batch is empty")
    return [_one(item, f"job {index}: " if batch else "") for index, item in enumerate(items, start=1)], batch


def _items(body: bytes, content_type: str) -> tuple[list[Any], bool]:
    if not body.strip():
        raise RequestInvalid("the request body is empty; it must be a job as JSON, an array of jobs, or one per line")
    if content_type.partition(";")[0].strip().lower() in NDJSON:
        lines = [line for line in body.split(b"\n") if line.strip()]
        return [_decode(line, f"line {number}: ") for number, line in enumerate(lines, start=1)], True
    decoded = _decode(body, "")
    return (decoded, True) if isinstance(decoded, list) else ([decoded], False)


def _decode(text: bytes, where: str) -> Any:
    try:
        # orjson is strict about JSON and UTF-8, the other about keys that occur twice.
        orjson.loads(text)
        return json.loads(text, object_pairs_hook=_unique)
    except orjson.JSONDecodeError as error:
        raise RequestInvalid(f"{where}the request body is not valid JSON: {error}") from error
    except (ValueError, RecursionError) as error:
        raise RequestInvalid(f"{where}{error}") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = sorted({key for key in keys if keys.count(key) > 1})
        raise ValueError(f"the same key occurs twice in one object: {', '.join(map(repr, twice))}")
    return found


def _one(item: Any, where: str) -> tuple[JobSpec, Generation]:
    if not isinstance(item, dict):
        raise RequestInvalid(f"{where}a job must be a JSON object")
    for name in NOT_YET:
        if name in item:
            raise RequestInvalid(f"{where}{name} is not supported by this version; poll or long-poll the job instead")
    try:
        spec = JobSpec.model_validate(item)
    except ValidationError as error:
        raise RequestInvalid(where + "; ".join(_fault(detail) for detail in error.errors())) from error
    if spec.target is Endpoint.CHAT and not spec.messages:
        raise RequestInvalid(f"{where}a chat job needs 'messages' (or 'prompt', for a generate job)")
    if spec.target is Endpoint.GENERATE and not spec.prompt:
        raise RequestInvalid(f"{where}a generate job needs a 'prompt'")
    body = {key: value for key, value in item.items() if key not in OURS}
    try:
        return spec, read_generation(orjson.dumps(body))
    except TypeError as error:  # a number beyond 64 bits, half a surrogate pair
        raise RequestInvalid(f"{where}{error}") from error


def _fault(detail: Any) -> str:
    place = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "missing":
        return f"'{place}' is missing"
    return f"'{place}': {detail['msg']}"
