"""What an audit comes to. Prints nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from foreman.audit.findings import Findings


@dataclass(slots=True, kw_only=True)
class Report:
    """A database as it was found: how much there was to look at, and what of it is wrong."""

    path: Path
    findings: Findings = field(default_factory=Findings)
    #: The log's last event and its hash: what a witness is to remember.
    position: int = 0
    hash: bytes = bytes(32)
    #: Those that there were when it began; there may be more at its end.
    events: int = 0
    jobs: int = 0
    artifacts: int = 0
    deliveries: int = 0
    archives: int = 0
    seconds: float = 0.0

    @property
    def is_clean(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings.counts

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "clean": self.is_clean,
            "database": str(self.path),
            "position": self.position,
            "hash": self.hash.hex(),
            "events": self.events,
            "jobs": self.jobs,
            "artifacts": self.artifacts,
            "deliveries": self.deliveries,
            "archives": self.archives,
            "seconds": round(self.seconds, 3),
            "counts": {code.value: count for code, count in self.findings.counts.items()},
            "findings": [finding.as_json() for finding in self.findings.kept],
        }
