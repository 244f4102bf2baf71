"""Variables that look like settings and are none: a misspelt one would otherwise be ignored without a word."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass

from foreman.config.settings import BY_VARIABLE

PREFIX = "FOREMAN_"

#: Variables that are no setting of the daemon's yet nobody's mistake: other commands read them.
KNOWN_ELSEWHERE = frozenset({"FOREMAN_EMBEDDED_GGUF", "FOREMAN_URL"})


@dataclass(frozen=True, slots=True)
class UnknownVariable:
    """A variable that looks like a setting and is none. Its value is left out: it may be a misspelt secret."""

    variable: str
    #: The setting that may have been meant; None if nothing is near.
    nearest: str | None

    def __str__(self) -> str:
        meant = f"; did you mean {self.nearest}?" if self.nearest else ""
        return f"{self.variable} is not a setting of foreman{meant}"


def unknown_variables(environ: Mapping[str, str]) -> tuple[UnknownVariable, ...]:
    """What to warn of at start: an unknown variable stops nothing, since other programs may own it."""
    unknown = sorted(name for name in environ if name.startswith(PREFIX) and name not in BY_VARIABLE)
    nearest = {name: difflib.get_close_matches(name, BY_VARIABLE, n=1, cutoff=0.75) for name in unknown}
    return tuple(
        UnknownVariable(name, nearest[name][0] if nearest[name] else None)
        for name in unknown
        if name not in KNOWN_ELSEWHERE
    )
