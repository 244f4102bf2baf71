"""When a delivery is tried again, and when it is given up. Pure: chance and time are handed in."""

from __future__ import annotations

from datetime import UTC
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Final

from foreman.clock import Micros
from foreman.projections.outbox import Status

MINUTE, HOUR, DAY = 60, 3_600, 86_400
#: Seconds to wait after the first failure, the second, and so on; after the last one the delivery is dead.
BACKOFF_S: Final = (1, 2, 4, 8, 16, MINUTE, 5 * MINUTE, 30 * MINUTE, 2 * HOUR, 8 * HOUR, 13 * HOUR)
#: So much longer a wait may be, as a share of it: those that failed together should not all come back together.
JITTER: Final = 0.2
#: The longest wait that a receiver may ask for.
LONGEST_RETRY_AFTER_S: Final = DAY


def outcome(
    *, ok: bool, status: int | None, failures: int, wait_s: float | None, now: Micros, chance: float
) -> tuple[Status, Micros]:
    """What becomes of a delivery after an attempt, and when the next one is due; now, if there is to be none.

    `failures` counts the attempts before this one; `wait_s` is what the receiver asked for, `chance` is in [0, 1).
    """
    if ok:
        return Status.DELIVERED, now
    if status == HTTPStatus.GONE:
        return Status.GONE, now
    if failures >= len(BACKOFF_S):
        return Status.DEAD, now
    delay_s = max(BACKOFF_S[failures] * (1 + JITTER * chance), min(wait_s or 0.0, LONGEST_RETRY_AFTER_S))
    return Status.PENDING, Micros(now + round(delay_s * 1_000_000))


def retry_after_s(header: str | None, now: Micros) -> float | None:
    """Seconds that a `Retry-After` asks for: a whole number of them or a date (RFC 9110, 10.2.3); None if neither."""
    text = (header or "").strip()
    if text.isascii() and text.isdecimal():
        return min(float(text[:12]), LONGEST_RETRY_AFTER_S)
    try:
        at = parsedate_to_datetime(text)
        # A zone of -0000 gives a time without one, though it is UTC all the same (RFC 5322, 3.3).
        return max(0.0, (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() - now / 1_000_000)
    except (ValueError, TypeError, OverflowError):
        return None
