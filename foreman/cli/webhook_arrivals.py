"""What a webhook that arrived is worth: its payload, its signature, its place among those before it.

Pure: no I/O, no clock; does not print. Knows of a job only what arrives.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Final

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from foreman.client import SignatureInvalid, verify_signature
from foreman.signing import BODY_SIGNATURE, ID, SIGNATURE

#: What is remembered, the latest of it; anybody may send to a receiver, so there has to be an end.
MOST_JOBS: Final = 5_000
MOST_IDS: Final = 20_000
LONGEST_NAME: Final = 200

Name = Annotated[str, Field(min_length=1, max_length=LONGEST_NAME)]


class Payload(BaseModel):
    """The members of a webhook's body that are looked at."""

    model_config = ConfigDict(strict=True, frozen=True)

    job_id: Name
    state: Name
    version: Annotated[int, Field(ge=1)]
    previous_state: Name | None = None
    model: str | None = None
    attempt: int | None = None


class Signature(StrEnum):
    """What a delivery's signature is worth."""

    OK = "ok"
    WRONG = "wrong"
    NONE = "none"
    UNCHECKED = "unchecked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What there is to say of one delivery."""

    signature: Signature
    #: Why the signature is wrong; empty unless it is.
    why: str = ""
    repeat: bool = False
    #: The first and the last version that this one skipped.
    gap: tuple[int, int] | None = None
    out_of_order: bool = False


class Judge:
    """Compares each delivery with those before it, and its signature with the secret. No I/O and no clock."""

    def __init__(self, secret: str | None, *, most_jobs: int = MOST_JOBS, most_ids: int = MOST_IDS) -> None:
        self.tally: Counter[str] = Counter()
        self._secret = secret
        self._most_jobs = most_jobs
        self._most_ids = most_ids
        #: The highest version of each job.
        self._highest: OrderedDict[str, int] = OrderedDict()
        self._ids: OrderedDict[str, int] = OrderedDict()

    def judge(self, payload: Payload, body: bytes, headers: Mapping[str, str], now_s: float) -> Verdict:
        """The verdict on the next delivery."""
        signature, why = self._signature(body, headers, now_s)
        message_id = headers.get(ID, f"{payload.job_id}-{payload.version}")[:LONGEST_NAME]
        highest = self._highest.get(payload.job_id, 0)
        repeat = message_id in self._ids
        skipped = not repeat and payload.version > highest + 1
        verdict = Verdict(
            signature=signature,
            why=why,
            repeat=repeat,
            gap=(highest + 1, payload.version - 1) if skipped else None,
            out_of_order=not repeat and payload.version < highest,
        )
        _remember(self._ids, message_id, payload.version, self._most_ids)
        _remember(self._highest, payload.job_id, max(highest, payload.version), self._most_jobs)
        self.tally["deliveries"] += 1
        self.tally["repeats"] += repeat
        self.tally["gaps"] += skipped
        self.tally[signature] += 1
        return verdict

    def _signature(self, body: bytes, headers: Mapping[str, str], now_s: float) -> tuple[Signature, str]:
        if SIGNATURE not in headers and BODY_SIGNATURE not in headers:
            return Signature.NONE, ""
        if self._secret is None:
            return Signature.UNCHECKED, ""
        try:
            verify_signature(body, headers, self._secret, now_s=now_s)
        except SignatureInvalid as fault:
            return Signature.WRONG, str(fault)
        return Signature.OK, ""


def _remember(known: OrderedDict[str, int], key: str, value: int, most: int) -> None:
    known[key] = value
    known.move_to_end(key)
    if len(known) > most:
        known.popitem(last=False)


def read(body: bytes) -> tuple[Payload, Any]:
    """The payload, and all of the body. Raises ValueError if it is no webhook of foreman's."""
    try:
        whole = orjson.loads(body)
        orjson.dumps(whole)  # takes less depth than reading does: what cannot be printed is not taken either
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        raise ValueError("the body is not JSON") from None
    try:
        return Payload.model_validate(whole), whole
    except ValidationError as error:
        fault = error.errors(include_input=False)[0]
        raise ValueError(": ".join([*map(str, fault["loc"]), fault["msg"]])) from None
