"""Which process looks at what: the log is read by both, the jobs are divided. Looks at nothing itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, Final

#: The first process looks at jobs whose ids end with one of these, the second one at the others. The ends of ids are
#: chance, so this is a share of the jobs; which, is what makes both processes end at the same time.
LETTERS: Final = "1345789BCDFGHKMNQSVXYZ"


class Share(Enum):
    """What one pass looks at. Both passes of a shared audit together look at what a pass over all does."""

    ALL = "all"
    #: The log as it is stored, the file's pages, and its jobs.
    FIRST = "first"
    #: Whether events can be read, what is folded of all of them (snapshots, keys, deliveries), and its jobs.
    SECOND = "second"

    @property
    def has_log(self) -> bool:
        """Whether it follows the log as it is stored."""
        return self is not Share.SECOND

    @property
    def has_events(self) -> bool:
        """Whether it decodes every event, and not only those of its jobs."""
        return self is not Share.FIRST

    @property
    def owns(self) -> Callable[[str], bool]:
        """Says of a job's id whether it looks at this job: a plain function, for it is asked once for each event."""
        return _OWNS[self]

    @property
    def where(self) -> tuple[str, tuple[Any, ...]]:
        """The same as a condition on `jobs.job_id`, and its parameters."""
        if self is Share.ALL:
            return "?", (1,)
        return "(instr(?, substr(jobs.job_id, -1)) > 0) = ?", (LETTERS, self is Share.FIRST)


_OWNS: Final[Mapping[Share, Callable[[str], bool]]] = {
    Share.ALL: lambda job_id: True,
    Share.FIRST: lambda job_id: job_id[-1:] in LETTERS,
    Share.SECOND: lambda job_id: job_id[-1:] not in LETTERS,
}
