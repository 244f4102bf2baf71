"""What `foreman doctor` looks at on this machine: settings, database, disk, clock, secrets. Changes nothing."""

from __future__ import annotations

import ipaddress
import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from rich.filesize import decimal

from foreman.clock import Micros, SystemClock, rfc3339
from foreman.commands.schema import MIGRATIONS, still_ours
from foreman.config.settings import Settings
from foreman.config.unknown import unknown_variables
from foreman.errors import ConfigError, DatabaseUnusable
from foreman.events.history import History
from foreman.events.log import SELECT_AT
from foreman.storage.database import SQLITE_VERSION
from foreman.storage.still import Still

#: Below these a disk is about to stop foreman, and should be looked after.
LEAST_FREE: Final = 200_000_000
LOW_FREE: Final = 2_000_000_000
#: A file larger than this is not read through for damage: `foreman audit` does that, and shows how far it is.
QUICKLY_READ: Final = 2_000_000_000
#: Characters; below that a token can be guessed by who has the time.
SHORTEST_TOKEN: Final = 16
FEWEST_SIGNS: Final = 8
AHEAD_S: Final = 5


class Verdict(StrEnum):
    """How a check went."""

    OK = "ok"
    NOTE = "note"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `next_step` is what to do, if there is something to be done."""

    subject: str
    verdict: Verdict
    said: str
    next_step: str = ""


def of_settings(environ: Mapping[str, str]) -> tuple[Settings | None, list[Finding]]:
    """The settings, or None if they cannot be used, and what is to be said of them."""
    found = [
        Finding("settings", Verdict.WARNING, str(unknown), "remove it, or correct its name")
        for unknown in unknown_variables(environ)
    ]
    try:
        settings = Settings.load(environ)
    except ConfigError as error:
        return None, [Finding("settings", Verdict.FAILED, str(error), error.hint or "see foreman serve --help"), *found]
    given = sum(name.startswith("FOREMAN_") for name in environ)
    said = f"{given} given, all else by default" if given else "all by default"
    return settings, [Finding("settings", Verdict.OK, said), *found]


def of_secrets(settings: Settings, *, daemon_asks: bool | None = None) -> Iterator[Finding]:
    """Whether strangers are kept out.

    `daemon_asks` is whether the daemon that serves asks for a token, so that this shell's, which it takes, is its own;
    None if none serves, which is when the settings of this shell are all there is.
    """
    token = settings.token.get_secret_value() if settings.token else None
    if token is None or daemon_asks is False:
        yield _no_token(settings, token, "there is none" if daemon_asks is None else "the daemon asks for none")
    elif len(token) < SHORTEST_TOKEN or len(set(token)) < FEWEST_SIGNS:
        step = "make one with: python3 -c 'import secrets; print(secrets.token_urlsafe(32))'"
        yield Finding("token", Verdict.WARNING, "it is easy to guess", step)
    else:
        said = f"{len(token)} characters" + (", and the daemon takes it" if daemon_asks else "")
        yield Finding("token", Verdict.OK, said)


def _no_token(settings: Settings, token: str | None, said: str) -> Finding:
    if token is not None:
        said += ", though this shell has one"
    if all(_is_loopback(host) for host in settings.addr.bind_hosts) and token is None:
        return Finding("token", Verdict.OK, f"{said}, and by FOREMAN_ADDR only this machine can reach the port")
    step = "set FOREMAN_TOKEN, or FOREMAN_ADDR=127.0.0.1:8080 to keep to this machine"
    return Finding("token", Verdict.WARNING, f"{said}: anybody who reaches the port may use it", step)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def of_disk(path: Path) -> Finding:
    """Whether there is room where the database is."""
    folder = path.absolute().parent
    if not folder.is_dir():
        return Finding("disk", Verdict.FAILED, f"there is no folder {folder}", f"mkdir -p {folder}")
    if not os.access(folder, os.W_OK | os.X_OK):
        return Finding("disk", Verdict.FAILED, f"{folder} cannot be written to", "give it to the user foreman runs as")
    free = shutil.disk_usage(folder).free
    said = f"{decimal(free)} free"
    if free < LOW_FREE:
        step = "make room, or shorten FOREMAN_JOB_TTL; a full disk refuses new jobs and loses none"
        return Finding("disk", Verdict.FAILED if free < LEAST_FREE else Verdict.WARNING, said, step)
    return Finding("disk", Verdict.OK, said)


def of_database(path: Path) -> Iterator[Finding]:
    """Whether the file can be read, is whole, and is of this foreman's making; and whether the clock agrees with it."""
    yield Finding("sqlite", Verdict.OK, SQLITE_VERSION)
    if not path.exists():
        yield Finding("database", Verdict.NOTE, f"{path} does not exist yet: the first start makes it")
        return
    try:
        with still_ours(path) as file:
            yield from _inside(file)
    except DatabaseUnusable as error:
        yield Finding("database", Verdict.FAILED, str(error), error.hint)
        return
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        said = f"others may read {path} (mode {mode:o}); prompts are in it"
        yield Finding("database", Verdict.WARNING, said, f"chmod 600 {path}")


def _inside(file: Still) -> Iterator[Finding]:
    wal = file.path.with_name(file.path.name + "-wal")
    size = file.path.stat().st_size + (wal.stat().st_size if wal.exists() else 0)
    ((schema,),) = file.rows("PRAGMA user_version")
    if schema > len(MIGRATIONS):
        said = f"{file.path} was written by a newer foreman (schema {schema}, this one knows {len(MIGRATIONS)})"
        yield Finding("database", Verdict.FAILED, said, "install that foreman again")
        return
    if size <= QUICKLY_READ:
        faults = [fault for (fault,) in file.rows("PRAGMA quick_check(3)") if fault != "ok"]
        if faults:
            yield Finding("database", Verdict.FAILED, f"SQLite finds it damaged: {faults[0]}", "restore a backup")
            return
    if not schema:
        yield Finding("database", Verdict.NOTE, f"{file.path} is empty: the first start makes its tables")
        return
    position, _ = History(file).head()
    waiting, finished = next(
        file.rows("SELECT count(*) FILTER (WHERE completed IS NULL), count(*) FILTER (WHERE completed > 0) FROM jobs")
    )
    yield from _archives(file)
    said = f"{file.path}, {decimal(size)}, {position:,} events, jobs: {waiting:,} waiting or running, {finished:,} over"
    step = "" if schema == len(MIGRATIONS) else "the next start brings it up to date"
    yield Finding("database", Verdict.OK, said, step)
    if position:
        yield _clock(Micros(next(file.rows(SELECT_AT, (position,)))[0]))


def _archives(file: Still) -> Iterator[Finding]:
    """The archives that are not where they belong, or not as long as they were; audits read them through."""
    for archive in History(file).archives():
        path = archive.path(file.path)
        try:
            size = path.stat().st_size
        except OSError as error:
            said = f"the archive {path} of the events {archive.first:,} to {archive.last:,}: {error.strerror}"
        else:
            if size == archive.bytes:
                continue
            said = f"the archive {path} has {size:,} bytes, and was written with {archive.bytes:,}"
        step = "put the file back, from a backup if need be: audit, replay and export read it"
        yield Finding("archive", Verdict.FAILED, said, step)


def _clock(last: Micros) -> Finding:
    now = SystemClock().now()
    if last > now + AHEAD_S * 1_000_000:
        said = f"the log's last event is of {rfc3339(last)}, and this machine's clock shows {rfc3339(now)}"
        return Finding("clock", Verdict.FAILED, said, "set the clock (NTP): waits and expiry are reckoned by it")
    return Finding("clock", Verdict.OK, "not behind the log")
