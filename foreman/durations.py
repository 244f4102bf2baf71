"""Durations as Go, and so Ollama, writes them: `30s`, `1h30m`. Settings, API and commands all read them here."""

from __future__ import annotations

import re
from typing import Final

import durationpy

#: Go keeps a duration in 63 bits of nanoseconds: 292 years.
LONGEST_S: Final = (2**63 - 1) / 1e9
#: Go's grammar. durationpy also takes days, weeks and text between the parts; Go does not.
_GO: Final = re.compile(r"[+-]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:ns|us|µs|μs|ms|s|m|h))+")
#: What people write instead; with more digits the hours would not be a duration either.
_DAYS: Final = re.compile(r"(?P<count>[0-9]{1,4})(?P<unit>[dw])")
_HOURS: Final = {"d": 24, "w": 168}
_BARE: Final = re.compile(r"[+-]?[0-9]+")


def duration_s(text: str) -> float:
    """Seconds from Go's notation; a bare `0` needs no unit. Raises ValueError, which says what is wrong."""
    if text == "0":
        return 0.0
    if days := _DAYS.fullmatch(text):
        hours = int(days["count"]) * _HOURS[days["unit"]]
        raise ValueError(f"Go's durations have no days or weeks: write {hours}h")
    if not _GO.fullmatch(text):
        raise ValueError("a number needs its unit" if _BARE.fullmatch(text) else "not a duration")
    try:
        seconds: float = durationpy.from_str(text).total_seconds()
    except durationpy.DurationError as error:
        raise ValueError("out of range") from error
    if abs(seconds) > LONGEST_S:
        raise ValueError("out of range")
    return seconds
