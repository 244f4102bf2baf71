"""A look at the processes below another one, and at their end."""

from __future__ import annotations

import os
import select
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def children_of(pid: int) -> list[int]:
    """The processes started by that one."""
    table = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    pairs = [tuple(map(int, line.split())) for line in table.splitlines()]
    return [child for child, parent in pairs if parent == pid]


class Watch:
    """Waits for the end of processes, whoever's children they are."""

    def __init__(self, pids: list[int]) -> None:
        self.handles = [os.pidfd_open(pid) for pid in pids]

    def all_ended(self, within_s: float = 5) -> bool:
        ended = [bool(select.select([handle], [], [], within_s)[0]) for handle in self.handles]
        for handle in self.handles:
            os.close(handle)
        return all(ended)
