"""`foreman ps` and `foreman top`: what runs, what is in memory, what waits; once, or as it changes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

import click
from rich.console import Console, Group, RenderableType
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from foreman.cli import words
from foreman.cli.daemon import asks_daemon, client, json_option, print_json
from foreman.cli.jobs import fitting, listing
from foreman.cli.live import show_live
from foreman.client import (
    Client,
    Health,
    Job,
    Queue,
    ResidentModel,
    RunningJob,
    Statistics,
    WaitingJob,
)
from foreman.errors import Unavailable

#: Jobs named of each model.
NAMED: Final = 3
#: Lines that the latest jobs need above them: their heading, and the last line.
FRAME: Final = 4
FEWEST: Final = 3
#: How wide a terminal must be for durations in full, and for the bounds of what is only expected.
WIDE: Final = 110
#: What is told of a running job, and how wide a terminal must be for it.
COLUMNS: Final = {"model": 50, "phase": 0, "for": 40, "tokens": 78, "tokens/s": 78, "ends in": 55}
NARROW: Final = {"tokens/s": "tok/s", "ends in": "ends"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """All that is shown, as of one moment or nearly."""

    health: Health
    queue: Queue
    resident: list[ResidentModel]
    hour: Statistics
    latest: list[Job]


@click.command()
@json_option("One JSON object with the queue and the models in memory")
@asks_daemon
def ps(*, url: str, as_json: bool) -> None:
    """Show the models in memory, what runs, and what waits for which model.

    Example: foreman ps
    """
    with client(url) as asked:
        health, queue, resident = asked.health(), asked.queue(limit=NAMED), _resident(asked)
    if as_json:
        print_json({"health": health.raw, "queue": queue.raw, "models": [model.raw for model in resident]})
        return
    out = words.console()
    out.print(Group(*_parts(health, queue, resident, out.width)))


def _resident(asked: Client) -> list[ResidentModel]:
    """The models in memory; none while the target has not been seen yet, which keeps nobody from the queue."""
    try:
        return asked.ps()
    except Unavailable:
        return []


@click.command()
@asks_daemon
def top(*, url: str) -> None:
    """Show the same as it changes, with the last hour's figures and the latest jobs, until Ctrl-C.

    Example: foreman top --url http://gpu-box:8080
    """
    console = words.console()
    with client(url) as asked:
        show_live(lambda: _picture(_look(asked, FEWEST + console.height), console), console, screen=True)


def _look(asked: Client, most: int) -> Scene:
    return Scene(
        health=asked.health(),
        queue=asked.queue(limit=NAMED),
        resident=_resident(asked),
        hour=asked.statistics("1h"),
        latest=list(islice(asked.list_jobs(page=most), most)),
    )


def _picture(scene: Scene, console: Console) -> RenderableType:
    """As much as there is room for; of the latest jobs those that fit."""
    above = Group(*_parts(scene.health, scene.queue, scene.resident, console.width), Text(), _hour(scene.hour), Text())
    used = len(console.render_lines(above, pad=False))
    room = max(FEWEST, console.height - used - FRAME)
    latest = fitting(scene.latest, console.width, room)
    return Group(above, listing(latest, console.width), Text("Ctrl-C ends", style="dim"))


def _parts(health: Health, queue: Queue, resident: list[ResidentModel], width: int) -> Iterator[RenderableType]:
    yield _headline(health)
    yield _memory(resident, "were in memory" if health.degraded else "in memory")
    yield Text()
    yield _running(queue, width)
    yield Text()
    yield _waiting(queue, width)


def _headline(health: Health) -> Text:
    line = Text(f"foreman {words.plain(health.version)}", style="bold")
    line.append(f", up {words.span(health.uptime_seconds)}; ", style="")
    if health.degraded:
        since = f" for {words.ago(health.degraded_since)}" if health.degraded_since else ""
        line.append(
            f"the target has been away{since}: {words.plain(health.target.error or 'no answer yet')}", style="red"
        )
    else:
        line.append(f"Ollama {words.plain(health.target.version or '')} answers", style="green")
    if pending := health.webhooks.get("pending"):
        line.append(f"; {pending:,} webhooks to be delivered", style="")
    return line


def _memory(resident: list[ResidentModel], where: str) -> Text:
    named = [f"{words.plain(model.name)} ({decimal(model.size_vram or model.size)})" for model in resident]
    return Text(f"{where}: {', '.join(named) or 'no model'}")


def _running(queue: Queue, width: int) -> Table | Text:
    if not queue.running:
        return Text("nothing runs", style="dim")
    names = [name for name, least in COLUMNS.items() if width >= least]
    titles = {name: name if width >= WIDE else NARROW.get(name, name) for name in names}
    right = [titles[name] for name in names if name in {"for", "tokens", "tokens/s"}]
    made = words.table("running", *titles.values(), right=right, short="model")
    return words.rows(made, (_running_line(job, names, wide=width >= WIDE) for job in queue.running))


def _running_line(job: RunningJob, names: Sequence[str], *, wide: bool) -> Sequence[str | Text]:
    values: dict[str, str | Text] = {
        "model": job.model,
        "phase": words.state(job.phase),
        "for": (words.span if wide else words.brief)(job.elapsed_seconds),
        "tokens": "" if job.tokens is None else f"{job.tokens:,}",
        "tokens/s": "" if job.tokens_per_second is None else f"{job.tokens_per_second:.1f}",
        "ends in": words.eta(job.eta_low_seconds, job.eta_seconds, job.eta_high_seconds)
        if wide
        else words.brief(job.eta_seconds),
    }
    return (job.job_id, *(values[name] for name in names))


def _waiting(queue: Queue, width: int) -> Table | Text:
    if not queue.waiting:
        return Text("nothing waits", style="dim")
    begins_in = "next begins in" if width >= WIDE else "begins in"
    made = words.table("waiting", "model", begins_in, "why", right=("waiting",), flexible="why", short="model")
    for line in queue.waiting:
        first = line.jobs[0] if line.jobs else None
        begins = _begins(first, wide=width >= WIDE) if first else ""
        words.rows(made, [(f"{line.count:,}", line.model, begins, words.local(first.reason) if first else "")])
    if queue.other_load_keys:
        words.rows(made, [("", f"and {queue.other_load_keys:,} other models", "", "")])
    return made


def _begins(job: WaitingJob, *, wide: bool) -> str:
    if not wide:
        return words.brief(job.eta_seconds)
    return words.eta(job.eta_low_seconds, job.eta_seconds, job.eta_high_seconds)


def _hour(hour: Statistics) -> Text:
    done, failed = sum(point.done for point in hour.points), sum(point.failed for point in hour.points)
    tokens = sum(point.generated_tokens for point in hour.points)
    avoided = round(hour.totals.get("swaps_avoided", 0))
    return Text(
        f"last hour: {done:,} done, {failed:,} failed, {tokens:,} tokens; "
        f"in all {round(hour.totals.get('swaps', 0)):,} loads, {avoided:,} avoided"
    )
