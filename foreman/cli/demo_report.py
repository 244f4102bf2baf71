"""What the demo came to: the sums, what went wrong, and both in words. Asks nobody: it reads the board."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table
from rich.text import Text

from foreman.cli.demo_jobs import Board, Item, loads_in_order
from foreman.cli.words import plain, seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The sums over all jobs."""

    jobs: int
    done: int
    #: Loads that really happened, and those that the same jobs would have taken in the order of their arrival.
    loads: int
    loads_first_come_first_served: int
    #: A load's mean time as measured here; None if there was none.
    load_seconds: float | None
    wall_seconds: float
    problems: tuple[str, ...]

    @property
    def loads_avoided(self) -> int:
        """What draining model by model was good for."""
        return self.loads_first_come_first_served - self.loads

    @property
    def seconds_saved(self) -> float:
        """The avoided loads at the measured mean."""
        return self.loads_avoided * (self.load_seconds or 0.0)

    def as_json(self) -> dict[str, Any]:
        """The report for machines."""
        return {
            "ok": not self.problems,
            **asdict(self),
            "loads_avoided": self.loads_avoided,
            "seconds_saved": round(self.seconds_saved, 3),
        }


def report(board: Board, wall_s: float, complaints: list[str]) -> Report:
    """Sum up a run; `complaints` are those of the daemon."""
    times = board.load_times_s
    in_order = loads_in_order([history.load_key for history in board.histories])
    problems = [fault for item in board.items for fault in faults(item)] + complaints
    if len(times) >= in_order:
        problems.append(f"no load was avoided: {len(times)} loads, and {in_order} in the order of arrival")
    return Report(
        jobs=len(board.items),
        done=len(board.in_state("done")),
        loads=len(times),
        loads_first_come_first_served=in_order,
        load_seconds=round(sum(times) / len(times), 3) if times else None,
        wall_seconds=round(wall_s, 3),
        problems=tuple(problems),
    )


def faults(item: Item) -> list[str]:
    """What is wrong with one job, each as a sentence."""
    found = list(item.faults)
    if item.state != "done":
        found.append(f"it is {item.state or 'not sent'} and not done")
    elif not item.text.strip():
        found.append("its answer is empty")
    if item.answered_as not in {"", item.job_id}:
        found.append("its caller got the answer of another job")
    return [f"job {item.order.number}: {fault}" for fault in found]


def table(board: Board, width: int) -> Table:
    """Every job in the order in which it was served."""
    shown = Table(box=None, pad_edge=False, expand=True, width=width, header_style="bold")
    shown.add_column("job", justify="right")
    shown.add_column("model", no_wrap=True)
    shown.add_column("sent as", no_wrap=True)
    shown.add_column("load", justify="right")
    shown.add_column("waited", justify="right")
    shown.add_column("ran", justify="right")
    shown.add_column("answer", ratio=1, no_wrap=True, overflow="ellipsis")
    for item in sorted(board.items, key=_served):
        history = item.history
        shown.add_row(
            f"{item.order.number}",
            item.order.model.partition(":")[0],
            item.order.how,
            seconds(history.load_s if history else None),
            seconds(history.waited_s if history else None),
            seconds(item.run_s),
            Text(plain(item.text) if item.state == "done" else item.state or "not sent"),
        )
    return shown


def _served(item: Item) -> tuple[float, int]:
    started = item.history.started if item.history else None
    return (float("inf") if started is None else started, item.order.number)


def sentences(found: Report) -> list[str]:
    """The sums in words."""
    load_s = found.load_seconds or 0.0
    return [
        f"{found.done} of {found.jobs} jobs done in {found.wall_seconds:.1f} s",
        f"{found.loads} model loads; first come, first served would have taken {found.loads_first_come_first_served}",
        f"{found.loads_avoided} loads avoided, {found.seconds_saved:.1f} s at the {load_s:.2f} s that a load took here",
    ]
