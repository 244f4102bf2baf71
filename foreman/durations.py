"""Durations as Go, and so Ollama, writes them: `30s`, `1h30m`. Settings, API and commands all read them here."""

from __future__ import annotations

import re
from typing import Final

import durationpy

#: Go keeps a duration in 63 bits of nanoseconds: 292 years.
LONGEST_S: Final = (2**63 - 1) / 1e9
#: Go's grammar. durationpy also takes days, weeks and text between the parts; Go does not.
_GO: Final = re.compile(r"[+-]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:ns|us|µs|μs|ms|s|m|h))+")
_BARE: Final = re.compile(r"[+-]?[0-9]+")


def duration_s(text: str) -> float:
    """Seconds from Go's notation; a bare `0` needs no unit. Raises ValueError, which says what is wrong."""
    if text == "0":
        return 0.0
    if not _GO.fullmatch(text):
        raise ValueError("a number needs its unit" if _BARE.fullmatch(text) else "not a duration")
    try:
        seconds: float = durationpy.from_str(text).total_seconds()
    except durationpy.DurationError as error:
        raise ValueError("out of range") from error
    if abs(seconds) > LONGEST_S:
        raise ValueError("out of range")
    return seconds
