"""Durations as Go's time.ParseDuration reads them, with its error texts, and Ollama's `keep_alive` on top."""

from __future__ import annotations

import math
import re
from fractions import Fraction
from typing import Any

from tests.fakes.gojson import GoError, Number, Pairs

FOREVER = math.inf
_MAX_NS = 2**63 - 1
_UNITS = {
    "ns": 1,
    "us": 10**3,
    "\u00b5s": 10**3,
    "\u03bcs": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}
_PART = re.compile(r"([0-9]*)(?:(\.)([0-9]*))?")
_UNIT = re.compile(r"[^0-9.]*")


def keep_alive(value: Any) -> float:
    """Seconds that a model stays after its last use, from a decoded `keep_alive` that is not null."""
    if isinstance(value, Number):
        seconds = float(value)
        return FOREVER if seconds < 0 else seconds
    if isinstance(value, str):
        nanoseconds = parse(value)
        return FOREVER if nanoseconds < 0 else nanoseconds / 1e9
    kind = {bool: "bool", Pairs: "map[string]interface {}", list: "[]interface {}"}[type(value)]
    raise GoError(f"Unsupported type: '{kind}'")


def parse(text: str) -> int:
    """Nanoseconds."""
    rest = text
    negative = rest.startswith("-")
    if rest[:1] in ("-", "+"):
        rest = rest[1:]
    if rest == "0":
        return 0
    if not rest:
        raise _invalid(text)
    total = Fraction(0)
    while rest:
        match = _PART.match(rest)
        if match is None or not (match.group(1) or match.group(3)):
            raise _invalid(text)
        rest = rest[match.end() :]
        unit = (_UNIT.match(rest) or match).group()
        if not unit:
            raise GoError(f"time: missing unit in duration {_quote(text)}")
        if unit not in _UNITS:
            raise GoError(f"time: unknown unit {_quote(unit)} in duration {_quote(text)}")
        total += Fraction(f"{match.group(1) or 0}.{match.group(3) or 0}") * _UNITS[unit]
        if total > _MAX_NS + negative:
            raise _invalid(text)
        rest = rest[len(unit) :]
    return -int(total) if negative else int(total)


def _invalid(text: str) -> GoError:
    return GoError(f"time: invalid duration {_quote(text)}")


def _quote(text: str) -> str:
    """Package time has a quote of its own: every byte that is not plain ASCII becomes hexadecimal."""
    shown = []
    for byte in text.encode():
        if byte in b'"\\':
            shown.append("\\" + chr(byte))
        else:
            shown.append(chr(byte) if 0x20 <= byte < 0x80 else f"\\x{byte:02x}")
    return '"' + "".join(shown) + '"'
