"""`foreman replay`: what a log comes to once more: as a database, as of a moment, under other rules."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import click
import orjson

from foreman.cli import replay_view
from foreman.cli.daemon import FAILED
from foreman.cli.files import database_option
from foreman.cli.parameters import Duration
from foreman.cli.progress import progress
from foreman.commands.dump import canonical_dump, first_difference
from foreman.commands.rebuild import Beside, Rebuilt, contents_of, rebuild
from foreman.commands.schema import still_ours
from foreman.config.settings import Settings
from foreman.errors import RequestInvalid
from foreman.events.history import History, chained
from foreman.parts import scheduling_of
from foreman.replay.moment import moment, parse_until
from foreman.replay.policy import Figures, played, recorded
from foreman.replay.recording import Recording
from foreman.replay.simulation import NEVER, Discipline
from foreman.scheduling.scheduler import Policy
from foreman.storage.still import Still, still


class LoadCost(click.ParamType[tuple[str, float]]):
    """A model, and what loading it shall cost."""

    name = "model=duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, float]:
        """`llama3:8b=8s`."""
        model, is_given, cost = str(value).rpartition("=")
        if not is_given or not model:
            self.fail(f"{value!r} is not of the form model=8s", param, ctx)
        return model, Duration().convert(cost, param, ctx)


@click.command()
@database_option
@click.option("--into", type=click.Path(path_type=Path), help="Make a new database of the log, and compare the two.")
@click.option(
    "--log-only", is_flag=True, help="With --into: the log alone; no artifacts, and no webhook is sent again."
)
@click.option("--verify/--no-verify", default=True, show_default=True, help="With --into: compare the two databases.")
@click.option("--until", metavar="POSITION|TIME", help="Show what ran and what waited then: 12345, 14:02, or a date.")
@click.option(
    "--policy", "policies", multiple=True, type=click.Choice(["ran", "fifo", "drain"]),
    help="Run the recorded work under these rules; `ran` are those that ran.",
)  # fmt: skip
@click.option(
    "--max-wait", type=Duration(), help="One more column: the rules that ran, but with this FOREMAN_MAX_WAIT."
)
@click.option("--max-wait-interactive", type=Duration(), help="Likewise, FOREMAN_MAX_WAIT_INTERACTIVE.")
@click.option("--swap-share", type=click.FloatRange(0, 1), help="Likewise, FOREMAN_SWAP_SHARE.")
@click.option("--parallel", type=click.IntRange(min=1), help="Likewise, FOREMAN_PARALLEL.")
@click.option("--load-cost", "load_costs", multiple=True, type=LoadCost(), help="What loading a model costs instead.")
@click.option("--json", "as_json", is_flag=True, help="JSON, for scripts.")
def replay(
    *,
    database: Path,
    into: Path | None,
    log_only: bool,
    verify: bool,
    until: str | None,
    policies: tuple[str, ...],
    load_costs: tuple[tuple[str, float], ...],
    as_json: bool,
    **changed: Any,
) -> None:
    """Ask the log: make a database of it, look at a moment, or try other rules on its work.

    Works beside a running daemon and changes nothing in its database.

    Example: foreman replay --until 14:02

    Example: foreman replay --policy fifo --policy drain --max-wait 5m
    """
    changes = {name: value for name, value in changed.items() if value is not None}
    tries = bool(policies or changes or load_costs)
    if (into is not None) + (until is not None) + tries != 1:
        raise click.UsageError("say one of --into, --until and --policy")
    if into is None and (log_only or not verify):
        raise click.UsageError("--log-only and --no-verify go with --into")
    with still_ours(database) as file:
        if into is not None:
            sys.exit(_into(file, into, log_only=log_only, verify=verify, as_json=as_json))
        elif until is not None:
            _until(file, until, as_json=as_json)
        else:
            _policies(file, policies, changes, dict(load_costs), as_json=as_json)


def _into(file: Still, path: Path, *, log_only: bool, verify: bool, as_json: bool) -> int:
    history = History(file)
    with progress("rebuilding", history.head()[0]) as bar:
        made = rebuild(
            path,
            history.events(),
            () if log_only else contents_of(file),
            None if log_only else Beside.of(file),
            bar.reach,
        )
    difference = _difference(file, path, made.position) if verify else None
    if as_json:
        click.echo(orjson.dumps(_made(path, made, difference, verify=verify)))
    else:
        replay_view.show_made(path, made, difference, verify=verify, log_only=log_only)
    return FAILED if difference or made.refused or (made.missing and not log_only) else 0


def _difference(file: Still, path: Path, events: int) -> tuple[str | None, str | None] | None:
    with still(path) as rebuilt, progress("comparing", events) as bar:

        def counted(lines: Iterable[str]) -> Iterable[str]:
            for number, line in enumerate(lines):
                if number % 1_000 == 0:
                    bar.reach(min(number, events))
                yield line

        return first_difference(counted(canonical_dump(file)), canonical_dump(rebuilt))


def _made(path: Path, made: Rebuilt, difference: Any, *, verify: bool) -> dict[str, Any]:
    return {
        "database": str(path),
        **made.as_json(),
        "equal": None if not verify else difference is None,
        "first_difference": difference,
    }


def _until(file: Still, text: str, *, as_json: bool) -> None:
    try:
        until, is_time = parse_until(text, datetime.now().astimezone().replace(tzinfo=None))
    except RequestInvalid as error:
        raise click.BadParameter(str(error), param_hint="--until") from error
    history = History(file)
    head = history.head()[0]
    if not is_time and until > head:
        raise click.BadParameter(f"the log ends at position {head}", param_hint="--until")
    with progress("reading", head if is_time else until) as bar:
        found = moment(chained(history.events()), until, is_time=is_time, told=bar.reach)
    if as_json:
        click.echo(orjson.dumps(replay_view.as_json(found)))
    else:
        replay_view.show_moment(found)


def _disciplines(policies: tuple[str, ...], changes: dict[str, Any], lives: Sequence[Policy]) -> list[Discipline]:
    """The columns: what ran first, whatever was asked for."""
    never = [replace(NEVER, parallel=ran.parallel) for ran in lives]
    known = {
        "fifo": _discipline("fifo", never, by_model=False, by_class=False),
        "drain": _discipline("drain", never, by_class=False),
    }
    columns = [_discipline("ran", lives), *(known[name] for name in dict.fromkeys(policies) if name in known)]
    if changes:
        named = {"max_wait": "max_wait_batch_s", "max_wait_interactive": "max_wait_interactive_s"}
        members = {named.get(name, name): value for name, value in changes.items()}
        columns.append(_discipline("changed", [replace(ran, **members) for ran in lives]))
    return columns


def _discipline(name: str, lives: Sequence[Policy], **rules: bool) -> Discipline:
    return Discipline(name, lives[0], tuple(lives), **rules)


def _policies_of(recording: Recording) -> list[Policy]:
    """What ran, by life of the daemon's; where the log does not say it, this shell's settings are taken for it."""
    said = [scheduling for _, scheduling in recording.lives]
    shell = None if recording.tells_rules else Policy.of(scheduling_of(Settings.load(os.environ)))
    policies = [shell if scheduling is None else Policy.of(scheduling) for scheduling in said]
    return [policy for policy in policies if policy is not None] or [shell or Policy()]


def _policies(
    file: Still, policies: tuple[str, ...], changes: dict[str, Any], load_costs: dict[str, float], *, as_json: bool
) -> None:
    history = History(file)
    with progress("reading", history.head()[0]) as bar:
        recording = Recording.of(chained(history.events()), told=bar.reach)
    disciplines = _disciplines(policies, changes, _policies_of(recording))
    unknown = set(load_costs) - {name for course in recording.courses for name in (course.model, course.load_key)}
    if unknown:
        raise click.BadParameter(f"the log has no job for {', '.join(sorted(unknown))}", param_hint="--load-cost")
    figures: list[Figures] = [recorded(recording)]
    with progress("playing", len(disciplines)) as bar:
        for number, discipline in enumerate(disciplines, 1):
            figures.append(played(recording, discipline, load_costs))
            bar.reach(number)
    if as_json:
        facts = {"position": recording.position, "jobs": len(recording.courses), "columns": list(map(asdict, figures))}
        click.echo(orjson.dumps(facts))
    else:
        replay_view.show_policies(recording, figures, is_own=not load_costs)
