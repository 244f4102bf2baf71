"""What `POST /jobs` takes: one job or many, each checked in full before any of them is queued."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

import orjson
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from foreman.destinations import parse_url
from foreman.errors import RequestInvalid, TooLarge
from foreman.events.types import Endpoint, JobClass, Webhook
from foreman.fsm.job import State
from foreman.signing import Signer
from foreman.target.names import LONGEST_NAME
from foreman.target.requests import Generation, read_generation

NDJSON: Final = ("application/x-ndjson", "application/jsonl", "application/ndjson")
#: A batch is read and written in one go, while everybody else waits: so many take some 50 ms.
MOST_JOBS: Final = 1_000
LONGEST_SECRET: Final = 1_024
MOST_FAULTS: Final = 10
#: Members of a job that are foreman's and not the target's.
WEBHOOK_MEMBERS: Final = ("state_webhook_url", "webhook_events", "webhook_secret")
OURS: Final = frozenset({"class", "endpoint", *WEBHOOK_MEMBERS})
ABOUT_WEBHOOKS: Final = re.compile("web_?hook|callback", re.IGNORECASE)
#: The states that a receiver can be told of. Removal by age is none of them.
TOLD: Final = tuple(state.value for state in State if state not in {State.NEW, State.EXPIRED})


def _keep_alive(value: Any) -> Any:
    # As one check and not as a union of types, of which pydantic would report each that failed.
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float | str)):
        raise PydanticCustomError("keep_alive", "must be a number of seconds or a duration such as '15m'")
    return value


def _webhook_url(value: str | None) -> str | None:
    if value is not None:
        try:
            parse_url(value)
        except ValueError as error:
            raise PydanticCustomError("webhook_url", "{error}", {"error": str(error)}) from error
    return value


def _webhook_secret(value: str | None) -> str | None:
    if value is not None:
        try:
            Signer.of(value)
        except ValueError as error:
            raise PydanticCustomError("webhook_secret", "{error}", {"error": str(error)}) from error
    return value


def _webhook_events(value: list[str] | None) -> list[str] | None:
    if value is not None and not set(value) <= set(TOLD):
        odd = ", ".join(repr(name[:50]) for name in value if name not in TOLD)
        words = {"odd": odd[:200], "told": ", ".join(TOLD)}
        raise PydanticCustomError("webhook_events", "{odd} is no job state; there are {told}", words)
    return value


class JobSpec(BaseModel):
    """One job as its caller wrote it: a native chat or generate request, and what foreman adds."""

    model_config = ConfigDict(extra="ignore", strict=True, hide_input_in_errors=True)

    model: str = Field(min_length=1, max_length=LONGEST_NAME)
    endpoint: Literal["chat", "generate"] | None = None
    job_class: Literal["batch", "interactive"] = Field("batch", alias="class")
    messages: list[dict[str, Any]] | None = None
    prompt: str | None = None
    options: dict[str, Any] | None = None
    keep_alive: Annotated[Any, AfterValidator(_keep_alive)] = None
    stream: bool | None = None
    state_webhook_url: Annotated[str | None, AfterValidator(_webhook_url)] = None
    webhook_events: Annotated[list[str] | None, AfterValidator(_webhook_events)] = None
    webhook_secret: Annotated[str | None, AfterValidator(_webhook_secret)] = Field(None, max_length=LONGEST_SECRET)

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

    @property
    def webhook(self) -> Webhook | None:
        """Whom to tell of it."""
        if self.state_webhook_url is None:
            return None
        events = None if self.webhook_events is None else tuple(dict.fromkeys(self.webhook_events))
        return Webhook(url=self.state_webhook_url, events=events)


Accepted = tuple[JobSpec, Generation]
MEMBERS: Final = frozenset(field.alias or name for name, field in JobSpec.model_fields.items())


def read_submissions(body: bytes, content_type: str) -> tuple[list[Accepted], bool]:
    """The jobs in a body, and whether it was a batch (an array or NDJSON). Raises RequestInvalid, TooLarge.

    A job that has a document or a line of its own goes to the target byte for byte as it was written.
    """
    if not body.strip():
        raise RequestInvalid("the request body is empty; it must be a job as JSON, an array of jobs, or one per line")
    if content_type.partition(";")[0].strip().lower() in NDJSON:
        lines = _counted([line for line in body.split(b"\n") if line.strip()])
        return [_one(_decode(line, f"job {index}: "), line, f"job {index}: ") for index, line in lines], True
    decoded = _decode(body, "")
    if not isinstance(decoded, list):
        return [_one(decoded, body, "")], False
    return [_one(item, None, f"job {index}: ") for index, item in _counted(decoded)], True


def _counted(items: list[Any]) -> list[tuple[int, Any]]:
    if len(items) > MOST_JOBS:
        raise TooLarge(f"a batch may hold {MOST_JOBS:,} jobs; this one holds {len(items):,}")
    if not items:
        raise RequestInvalid("the batch is empty")
    return list(enumerate(items, start=1))


def _decode(text: bytes, where: str) -> Any:
    try:
        # orjson is strict about JSON and UTF-8, the other is asked about keys that occur twice.
        decoded = orjson.loads(text)
        UNREPEATED.decode(text.decode())
    except orjson.JSONDecodeError as error:
        hint = f" (one job a line needs Content-Type: {NDJSON[0]})" if not where and b"\n" in text.strip() else ""
        raise RequestInvalid(f"{where}not valid JSON: {error}{hint}") from error
    except RecursionError as error:
        raise RequestInvalid(f"{where}the request body is nested too deeply") from error
    except ValueError as error:
        raise RequestInvalid(f"{where}{error}") from error
    return decoded


def _no_key_twice(pairs: list[tuple[str, Any]]) -> None:
    if len(dict(pairs)) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = sorted({key for key in keys if keys.count(key) > 1})
        raise ValueError(f"the same key occurs twice in one object: {_quoted(twice)}")


UNREPEATED: Final = json.JSONDecoder(object_pairs_hook=_no_key_twice)


def _one(item: Any, text: bytes | None, where: str) -> Accepted:
    if not isinstance(item, dict):
        raise RequestInvalid(f"{where}a job must be a JSON object")
    _check_names(item, where)
    try:
        spec = JobSpec.model_validate(item)
    except ValidationError as error:
        raise RequestInvalid(where + faults(error.errors())) from error
    if spec.state_webhook_url is None and (spec.webhook_events is not None or spec.webhook_secret is not None):
        raise RequestInvalid(f"{where}webhook_events and webhook_secret need a 'state_webhook_url'")
    if spec.target is Endpoint.CHAT and not spec.messages:
        raise RequestInvalid(f"{where}a job needs either 'messages', for a chat, or a 'prompt', to generate from")
    if spec.target is Endpoint.GENERATE and not spec.prompt:
        raise RequestInvalid(f"{where}a generate job needs a 'prompt'")
    if text is None or not OURS.isdisjoint(item):
        try:
            text = orjson.dumps({key: value for key, value in item.items() if key not in OURS})
        except TypeError as error:  # orjson reads deeper nesting than it writes
            raise RequestInvalid(f"{where}the request body is nested too deeply") from error
    return spec, read_generation(text)


def _check_names(item: dict[str, Any], where: str) -> None:
    # The target takes `Model` for `model`, and the later one of the two; foreman would queue for one and run the other.
    odd = [name for name in item if name not in MEMBERS and name.casefold() in MEMBERS]
    if odd:
        raise RequestInvalid(f"{where}members are written in lower case: {_quoted(odd)}")
    # A misspelt webhook would be accepted, and its caller wait for ever. The target has no member of such a name.
    alike = [name for name in item if name not in MEMBERS and ABOUT_WEBHOOKS.search(name)]
    if alike:
        raise RequestInvalid(f"{where}there is no member {_quoted(alike)}; for webhooks: {', '.join(WEBHOOK_MEMBERS)}")


def faults(details: Sequence[Any]) -> str:
    """As many as a caller would read: a list may hold thousands."""
    shown = "; ".join(_fault(detail) for detail in details[:MOST_FAULTS])
    return shown if len(details) <= MOST_FAULTS else f"{shown}; and {len(details) - MOST_FAULTS} more"


def _fault(detail: Any) -> str:
    place = ".".join(str(part)[:50] for part in detail["loc"]) or "the body"
    if detail["type"] == "missing":
        return f"'{place}' is missing"
    return f"'{place}': {detail['msg']}"


def _quoted(names: list[str]) -> str:
    """Some names for a message; a caller who sent thousands need not read them all."""
    shown = ", ".join(repr(name if len(name) <= 50 else f"{name[:50]}…") for name in names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"
