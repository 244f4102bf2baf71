"""Where the prompt of `foreman submit` comes from: words, a file, a pipe. Asks nobody."""

from __future__ import annotations

import fcntl
import sys
import termios
from typing import IO, Final

import click

from foreman.cli import words

UNREAD: Final = "note: there is text on stdin that was not read; with -f - it goes after the prompt"


def read_prompt(given: str | None, source: IO[bytes] | None, *, has_images: bool) -> str:
    """The prompt: the words, what is read, or both with a blank line between them. Raises click.UsageError."""
    if given is None or given == "-":
        if given is not None and source is not None:
            raise click.UsageError("the prompt is to be read twice: '-' and --file")
        if source is None and given is None and sys.stdin.isatty():
            raise click.UsageError("Missing argument 'PROMPT'; it may also come by --file or through a pipe.")
        return _read(source or sys.stdin.buffer)
    if not given.strip() and not has_images:
        raise click.UsageError("the prompt is empty")
    return given if source is None else f"{given}\n\n{_read(source)}"


def _read(stream: IO[bytes]) -> str:
    try:
        text = stream.read().decode()
    except UnicodeDecodeError as error:
        raise click.UsageError(f"the prompt is no UTF-8 text: {error}") from error
    if not text.strip():  # what was to write it has failed, as a rule
        raise click.UsageError("the prompt that was read is empty")
    return text


def tell_of_unread() -> None:
    """Say that somebody piped in what nobody asked to read.

    Beside words, stdin is read only if `-f -` says so. To read it unasked would take the rest of a list from the loop
    around the command (`while read line; do foreman submit … "$line"; done < list`), and wait for ever for a pipe that
    whoever started us holds open and never writes to, as supervisors, editors and CI runners do.
    """
    if not sys.stdin.isatty() and _waiting_bytes():
        words.talk().print(UNREAD, style="dim", markup=False, soft_wrap=True)


def _waiting_bytes() -> int:
    """How much could be read from stdin at once: of a pipe, a socket, a file; of what has no such thing, nothing."""
    try:
        return int.from_bytes(fcntl.ioctl(sys.stdin.fileno(), termios.FIONREAD, bytes(4)), sys.byteorder)
    except (OSError, ValueError):  # /dev/null, or closed
        return 0
