"""Whether a webhook is foreman's: its signatures against a secret. Keeps nothing, so it cannot tell a repeat.

A receiver passes the body as it came, byte for byte, and remembers `webhook-id` itself to drop repeats.
"""

from __future__ import annotations

import hmac
import re
import time
from collections.abc import Mapping
from typing import Final

from foreman.signing import (
    BODY_SIGNATURE,
    ID,
    SIGNATURE,
    STANDARD_PREFIX,
    TIMESTAMP,
    Signer,
    body_signature,
    standard_signature,
)

#: How far the sender's clock and the receiver's may be apart.
TOLERANCE_S: Final = 300.0
_UNIX_TIME = re.compile(r"[0-9]{1,12}")


class SignatureInvalid(ValueError):
    """The webhook was not signed with the secret, or not at this time; the message says why."""


def verify_signature(
    body: bytes,
    headers: Mapping[str, str],
    secret: str,
    *,
    tolerance_s: float = TOLERANCE_S,
    now_s: float | None = None,
) -> None:
    """Return if the webhook was signed with the secret, or with any of a comma-separated list of them.

    A secret that begins with `whsec_` needs `webhook-signature` and a time within the tolerance; any other needs
    `x-foreman-signature`, which has no time. Raises SignatureInvalid, and ValueError if the secret itself is unusable.
    """
    signer = Signer.of(secret)
    faults = []
    if keys := signer.keys:
        try:
            return _check_standard(body, headers, keys, tolerance_s, time.time() if now_s is None else now_s)
        except SignatureInvalid as fault:
            faults.append(str(fault))
    # A `whsec_` secret signs the body alone too, but that is no proof here: whoever holds an old webhook could leave
    # out the signature that covers its time.
    if plain := [text for text in signer.texts if not text.startswith(STANDARD_PREFIX)]:
        try:
            return _check_body(body, headers, plain)
        except SignatureInvalid as fault:
            faults.append(str(fault))
    raise SignatureInvalid("; ".join(faults))


def _check_standard(
    body: bytes, headers: Mapping[str, str], keys: tuple[bytes, ...], tolerance_s: float, now_s: float
) -> None:
    message_id, timestamp, signature = (_header(headers, name) for name in (ID, TIMESTAMP, SIGNATURE))
    if "." in message_id:
        # The signed bytes are `id.time.body`: with a point in the id they could be divided in another place.
        raise SignatureInvalid(f"{ID} holds a point")
    if not _UNIX_TIME.fullmatch(timestamp):
        raise SignatureInvalid(f"{TIMESTAMP} is not a Unix time in seconds")
    off_s = now_s - int(timestamp)
    if not abs(off_s) <= tolerance_s:
        direction = "old" if off_s > 0 else "ahead"
        raise SignatureInvalid(f"{TIMESTAMP} is {abs(off_s):.0f} s {direction}, more than {tolerance_s:g} s")
    right = [standard_signature(key, message_id, timestamp, body) for key in keys]
    if not any(hmac.compare_digest(given, one) for given in signature.split(" ") for one in right):
        raise SignatureInvalid(f"{SIGNATURE} does not fit id, time, body and secret")


def _check_body(body: bytes, headers: Mapping[str, str], secrets: list[str]) -> None:
    given = _header(headers, BODY_SIGNATURE)
    if not any(hmac.compare_digest(given, body_signature(secret, body)) for secret in secrets):
        raise SignatureInvalid(f"{BODY_SIGNATURE} does not fit body and secret")


def _header(headers: Mapping[str, str], name: str) -> str:
    values = [value for key, value in headers.items() if key.lower() == name]
    if not values:
        raise SignatureInvalid(f"there is no {name}")
    if len(values) > 1:
        # Whoever reads the headers after this must not find another value than the one that was checked.
        raise SignatureInvalid(f"{name} came more than once")
    if not values[0].isascii():
        raise SignatureInvalid(f"{name} holds characters that are not ASCII")
    return values[0]
