"""An export made a database again: every line is checked on its way, and nothing is there before all of it is."""

from __future__ import annotations

import base64
import gzip
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any, Final, cast

from foreman.commands.rebuild import Rebuilt, rebuild
from foreman.events.lines import CheckedLines, StoredArtifact
from foreman.projections import contents
from foreman.storage.reading import Row

STDIN: Final = Path("-")
GZIP: Final = b"\x1f\x8b"
#: No line is longer: SQLite holds nothing over a billion bytes, and base64 makes four of three.
LONGEST_LINE: Final = 1_400_000_000
_KINDS: Final = (str, str, str, int, str, str, bytes)


@contextmanager
def opened(path: Path) -> Iterator[CheckedLines]:
    """An export to read, compressed or not; `-` is stdin. Raises OSError, ExportInvalid."""
    with ExitStack() as stack:
        name = "stdin" if path == STDIN else str(path)
        file = sys.stdin.buffer if path == STDIN else stack.enter_context(path.open("rb"))
        plain: Any = file
        if cast(BufferedReader, file).peek(2)[:2] == GZIP:
            plain = stack.enter_context(gzip.GzipFile(fileobj=file))
        yield CheckedLines(iter(lambda: plain.readline(LONGEST_LINE), b""), name)


def import_log(lines: CheckedLines, into: Path, told: Callable[[int], None]) -> Rebuilt:
    """Make a database of it; `told` hears the position reached.

    Raises ExportInvalid, LogCorrupt or UnknownEvent, naming line or position, and what `rebuild` raises.
    """
    if lines.header.after:
        raise lines.wrong(
            f"it begins after position {lines.header.after}; a database needs the log from its first event on"
        )
    return rebuild(into, lines.events(), _artifacts(lines), told=told)


def _artifacts(lines: CheckedLines) -> Iterator[Row]:
    for members in lines.rest():
        try:
            given = members["artifact"]
            data = base64.b64decode(given["bytes"], validate=True)
            artifact = StoredArtifact(**{**given, "bytes": data})
            if any(type(value) is not kind for value, kind in zip(artifact, _KINDS, strict=True)) or artifact.size < 0:
                raise TypeError
            sound = contents.is_sound(artifact)
        except (KeyError, TypeError, ValueError, OverflowError, zlib.error):
            raise lines.wrong("this is neither an event nor an artifact, nor the end") from None
        if not sound:
            raise lines.wrong(f"the artifact {artifact.name} of job {artifact.job_id} was changed")
        yield artifact
