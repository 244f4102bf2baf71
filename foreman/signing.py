"""How a webhook is signed: the secrets of a list, and what they put in a delivery's headers.

Pure: no clock, no I/O. Does not know what a body says, nor when or where it is sent. There are two signatures:

- `x-foreman-signature`, over the body alone; any text may be its secret;
- `webhook-signature` of Standard Webhooks, over id, time and body; its secrets begin with `whsec_`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from dataclasses import dataclass
from typing import Final, Self

#: Names of headers, in lower case.
ID: Final = "webhook-id"
TIMESTAMP: Final = "webhook-timestamp"
SIGNATURE: Final = "webhook-signature"
BODY_SIGNATURE: Final = "x-foreman-signature"

STANDARD_PREFIX: Final = "whsec_"
#: What Standard Webhooks asks of a key.
_SHORTEST_KEY, _LONGEST_KEY = 24, 64
_VISIBLE_ASCII = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True, slots=True, repr=False)
class Signer:
    """The secrets of a list. More than one is for the time in which receivers change from one to the next."""

    #: The secrets as they were given, in their order; none at all signs nothing.
    texts: tuple[str, ...] = ()

    @classmethod
    def of(cls, text: str) -> Self:
        """The signer for a comma-separated list of secrets. Raises ValueError, which never quotes one."""
        texts = tuple(part.strip(" \t") for part in text.split(","))
        for secret in texts:
            if not secret:
                raise ValueError("a secret must not be empty")
            if not _VISIBLE_ASCII.fullmatch(secret):
                raise ValueError("a secret may hold only visible ASCII characters, no blanks")
            if secret.startswith(STANDARD_PREFIX):
                _standard_key(secret)
        return cls(texts)

    @property
    def keys(self) -> tuple[bytes, ...]:
        """The keys of those secrets that Standard Webhooks can use."""
        return tuple(_standard_key(text) for text in self.texts if text.startswith(STANDARD_PREFIX))

    def headers(self, message_id: str, at_s: int, body: bytes) -> dict[str, str]:
        """All headers of one attempt; `at_s` is the Unix time of this attempt, the id is the same for each."""
        timestamp = str(at_s)
        headers = {ID: message_id, TIMESTAMP: timestamp}
        if self.texts:
            # The first secret only: receivers compare this header as a whole, so it has to be one value.
            headers[BODY_SIGNATURE] = body_signature(self.texts[0], body)
        if keys := self.keys:
            headers[SIGNATURE] = " ".join(standard_signature(key, message_id, timestamp, body) for key in keys)
        return headers


def body_signature(secret: str, body: bytes) -> str:
    """The value of `x-foreman-signature`, keyed with the whole text of the secret, whatever it begins with."""
    return f"sha256={hmac.digest(secret.encode('ascii'), body, 'sha256').hex()}"


def standard_signature(key: bytes, message_id: str, timestamp: str, body: bytes) -> str:
    """One token of `webhook-signature`."""
    digest = hmac.new(key, f"{message_id}.{timestamp}.".encode("ascii"), hashlib.sha256)
    digest.update(body)
    return f"v1,{base64.b64encode(digest.digest()).decode('ascii')}"


def _standard_key(secret: str) -> bytes:
    encoded = secret.removeprefix(STANDARD_PREFIX).rstrip("=")
    # The padding is optional, as it is for the official libraries.
    padding = "=" * (-len(encoded) % 4)
    try:
        key = base64.b64decode(encoded + padding, validate=True)
    except binascii.Error:
        key = b""
    if not _SHORTEST_KEY <= len(key) <= _LONGEST_KEY:
        raise ValueError(
            f"what follows {STANDARD_PREFIX} must be base64 of {_SHORTEST_KEY} to {_LONGEST_KEY} bytes"
        ) from None
    return key
