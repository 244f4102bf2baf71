"""The command line as a person or a script runs it: in a process of its own, through pipes or at a terminal."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import pty
import re
import signal
import struct
import sys
import termios
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

WITHIN_S = 20.0
NOWHERE = "http://127.0.0.1:9"


@dataclass(frozen=True)
class Ended:
    """A command that is over."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


def environ(url: str, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FOREMAN_")}
    return {**kept, "FOREMAN_URL": url, "TERM": "xterm-256color", **more}


async def start(url: str, *arguments: str, stdin: Any = asyncio.subprocess.DEVNULL, **more: str) -> Any:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "foreman", *arguments), env=environ(url, **more), stdin=stdin,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def cli(url: str, *arguments: str, given: str | None = None, **more: str) -> Ended:
    """Run a command to its end."""
    child = await start(
        url, *arguments, stdin=asyncio.subprocess.PIPE if given is not None else asyncio.subprocess.DEVNULL, **more
    )
    async with asyncio.timeout(WITHIN_S):
        out, err = await child.communicate(None if given is None else given.encode())
    ended = Ended(child.returncode or 0, out.decode(), err.decode())
    assert "Traceback" not in ended.err, ended.err
    return ended


class Terminal:
    """A command at a terminal of some size."""

    def __init__(self, child: asyncio.subprocess.Process, descriptor: int) -> None:
        self._child = child
        self._descriptor = descriptor
        self._come = asyncio.Event()
        self.raw = ""
        asyncio.get_running_loop().add_reader(descriptor, self._read)

    def _read(self) -> None:
        try:
            piece = os.read(self._descriptor, 65_536)
        except OSError:  # its last user has gone
            piece = b""
        if not piece:
            asyncio.get_running_loop().remove_reader(self._descriptor)
        self.raw += piece.decode(errors="replace")
        self._come.set()

    @property
    def text(self) -> str:
        """What was shown, without colours and the cursor's moves."""
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", self.raw).replace("\r", "")

    async def shows(self, words: str) -> None:
        """Wait until these words were shown."""
        async with asyncio.timeout(WITHIN_S):
            while words not in self.text:
                self._come.clear()
                await self._come.wait()

    def interrupt(self) -> None:
        """Ctrl-C."""
        self._child.send_signal(signal.SIGINT)

    async def ended(self) -> int:
        """Its exit status."""
        async with asyncio.timeout(WITHIN_S):
            status = await self._child.wait()
        await asyncio.sleep(0)
        self._read()
        assert "Traceback" not in self.text, self.text
        return status


@asynccontextmanager
async def terminal(
    url: str, *arguments: str, columns: int = 100, rows: int = 30, **more: str
) -> AsyncIterator[Terminal]:
    """A command whose output and talk go to a terminal."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "foreman", *arguments), env=environ(url, **more),
        stdin=asyncio.subprocess.DEVNULL, stdout=theirs, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    shown = Terminal(child, ours)
    try:
        yield shown
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
        asyncio.get_running_loop().remove_reader(ours)
        os.close(ours)
