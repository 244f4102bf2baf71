"""What HTTP says of events that `foreman compact` has moved: that they are elsewhere, and where. Reads no archive."""

from __future__ import annotations

from foreman.api.desk import Desk
from foreman.errors import EventsArchived
from foreman.events import archives
from foreman.events.types import DAEMON
from foreman.projections import jobs


async def archived_until(desk: Desk, stream: str | None) -> tuple[int, str]:
    """The last position that is in an archive and the file, for who reads this stream or all; 0 if nothing is."""
    last = await archives.last(desk.read)
    if last is not None and stream not in {None, DAEMON}:
        job = await jobs.find(desk.read, stream)
        last = last if job is not None and job.order <= last[0] else None
    return (last[0], last[2]) if last is not None else (0, "")


async def must_be_kept(desk: Desk, stream: str | None, after: int) -> None:
    """Raises EventsArchived if what comes after the position begins in an archive."""
    position, file = await archived_until(desk, stream)
    if after < position:
        raise EventsArchived(f"events up to position {position} were moved to archives, the last of them {file}")
