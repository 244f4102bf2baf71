"""A small real language model behind Ollama's wire, for people who have no Ollama yet.

Owns everything between a GGUF file and the native routes of Ollama, in processes of its own. Knows nothing of foreman's
queue: it imports only `foreman.errors` and `foreman.clock`, and nothing but the command line imports it.

::

    foreman ──stdin──> python -m foreman.embedded ──stdin──> child.py (llama.cpp, one loaded model)

Each process ends when its stdin, which its parent holds open, closes: so none outlives a parent killed with SIGKILL.
"""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from foreman.errors import ConfigError, ForemanError, Unavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

__all__ = ["launch"]

#: How long the server may take to stop its runners before it is killed; they then end by themselves.
STOP_WITHIN_S = 5.0


@asynccontextmanager
async def launch(
    *,
    cache: Path | None = None,
    gguf: Path | None = None,
    embeddings: bool = False,
    max_loaded: int = 1,
    port: int = 0,
    ready_within_s: float = 900.0,
) -> AsyncIterator[str]:
    """Run the embedded server for the length of the block and give its base URL.

    The first start downloads the model, with its progress on stderr, hence the long `ready_within_s`.
    `gguf` is a chat model's file to use instead; with `embeddings` all-minilm is on offer too, another download.
    Raises `ConfigError` for what the user must mend and `Unavailable` for what may work later.
    """
    arguments = ["--until-stdin-closes", "--port", str(port), "--max-loaded", str(max_loaded)]
    arguments += ["--cache", str(cache)] if cache else []
    arguments += ["--embeddings"] if embeddings else []
    arguments += ["--gguf", str(gguf)] if gguf else []
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "foreman.embedded",
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        # Ctrl-C reaches a whole terminal group: the daemon must be able to drain before its target goes away.
        start_new_session=True,
    )
    try:
        yield await _address(process, ready_within_s)
    finally:
        await _end(process)


async def _address(process: asyncio.subprocess.Process, within_s: float) -> str:
    """The address that the server prints when it is ready, or the error that it prints instead."""
    assert process.stdout is not None
    try:
        async with asyncio.timeout(within_s):
            line = await process.stdout.readline()
    except TimeoutError:
        raise Unavailable(f"the embedded model was not ready within {within_s:.0f} s") from None
    said: dict[str, str] = json.loads(line) if line else {"error": "the embedded model ended before it was ready"}
    if "url" in said:
        return said["url"]
    kind: type[ForemanError] = ConfigError if said.get("code") == ConfigError.code else Unavailable
    raise kind(said["error"])


async def _end(process: asyncio.subprocess.Process) -> None:
    """Close the server's stdin, which ends it; kill it if it lingers."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        async with asyncio.timeout(STOP_WITHIN_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
