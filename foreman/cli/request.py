"""The job that words and options ask for. Reads the files that options name, and asks nobody."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import IO, Any, Final, NamedTuple

import click
import orjson

#: Members that shape a request and are none of its own.
SHAPING: Final = frozenset({"system", "images", "generate"})


class Limit(NamedTuple):
    """How long to wait, as it was written and in seconds."""

    written: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the options say of each job."""

    members: Mapping[str, Any]
    key: str | None
    wait: bool
    stream: bool
    limit: Limit | None
    as_json: bool


def members_of(
    *, model: str | None, system: str | None, images: Iterable[IO[bytes]], options: Iterable[str], form: str | None,
    generate: bool, job_class: str | None, webhook: str | None,
) -> dict[str, Any]:  # fmt: skip
    """What the options say that each job is to have. Raises click.BadParameter."""
    found = {
        "model": model,
        "system": system,
        "images": [base64.b64encode(image.read()).decode() for image in images] or None,
        "options": dict(map(_option, options)) or None,
        "format": None if form is None else _format(form),
        "generate": generate or None,
        "class": job_class,
        "state_webhook_url": webhook,
    }
    return _present(**found)


def _option(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise click.BadParameter(f"{text!r} is not NAME=VALUE", param_hint="--option")
    try:
        return name, orjson.loads(value)
    except orjson.JSONDecodeError:
        return name, value


def _format(form: str) -> Any:
    if form == "json":
        return form
    try:
        with click.open_file(form, "rb") as file:
            return orjson.loads(file.read())
    except (OSError, orjson.JSONDecodeError) as error:
        raise click.BadParameter(f"{form}: {error}", param_hint="--format") from error


def completed_job(said: Mapping[str, Any], members: Mapping[str, Any]) -> dict[str, Any]:
    """A job that is one already; what it leaves out comes from the options. Raises click.UsageError."""
    job = {**common(members), **said}
    images, system, messages = members.get("images"), members.get("system"), said.get("messages")
    if not isinstance(messages, list):
        return {**_present(images=images, system=system), **job}
    if images is not None:
        raise click.UsageError("--image goes with prompts; of messages each has its own images")
    has_system = any(isinstance(message, dict) and message.get("role") == "system" for message in messages)
    if system is not None and not has_system:
        job["messages"] = [{"role": "system", "content": system}, *messages]
    return job


def _present(**members: Any) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}


def common(members: Mapping[str, Any]) -> dict[str, Any]:
    """Members that every request can have, whatever its prompt looks like."""
    return {name: value for name, value in members.items() if name not in SHAPING}


def wanted_job(prompt: str, members: Mapping[str, Any]) -> dict[str, Any]:
    """The job for one prompt: a chat unless --generate."""
    rest = common(members)
    images, system = members.get("images"), members.get("system")
    if members.get("generate"):
        return {**rest, "prompt": prompt, **_present(images=images, system=system)}
    message: dict[str, Any] = {"role": "user", "content": prompt}
    if images is not None:
        message["images"] = images
    before = [] if system is None else [{"role": "system", "content": system}]
    return {**rest, "messages": [*before, message]}
