"""The parent's side of one runner process: start it, talk to it, end it. Decides nothing about who is loaded when."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import orjson

from foreman.embedded.requests import RUNNER_OPTIONS, Refusal

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from foreman.embedded.catalog import Model

CHILD = Path(__file__).with_name("child.py")
DEFAULT_NUM_CTX = 4096
DEFAULT_NUM_BATCH = 512
STOPPED = (
    "model runner has unexpectedly stopped, this may be due to resource limitations or an internal error, "
    "check ollama server logs for details"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What to load and how. Two equal ones share a runner."""

    model: Model
    #: The options that belong to a loaded model, as the request or the model gives them; the rest is default.
    options: tuple[tuple[str, Any], ...] = ()

    @classmethod
    def of(cls, model: Model, options: dict[str, Any]) -> Load:
        """The load that these options ask for."""
        return cls(model=model, options=tuple((key, options[key]) for key in RUNNER_OPTIONS if key in options))

    @property
    def num_ctx(self) -> int:
        """The length of the context: never longer than the model was made for."""
        longest = self.model.header.of_architecture("context_length") or DEFAULT_NUM_CTX
        return max(4, min(int(dict(self.options).get("num_ctx", DEFAULT_NUM_CTX)), longest))

    def order(self) -> dict[str, Any]:
        """The line that the runner process reads."""
        options = dict(self.options)
        return {
            "gguf": str(self.model.gguf),
            "num_ctx": self.num_ctx,
            "num_batch": max(1, int(options.get("num_batch", DEFAULT_NUM_BATCH))),
            "num_thread": max(0, int(options.get("num_thread", 0))),
            "embedding": self.model.embeds,
        }


class Runner:
    """One loaded model in its own process."""

    def __init__(self, load: Load, process: asyncio.subprocess.Process, ready: dict[str, Any]) -> None:
        self.load = load
        self.process = process
        #: A call to it broke: it has died, or is no use any more. The exit status may become known only later.
        self.broken = False
        self.size_bytes: int = ready["size_bytes"]
        #: One request at a time, first come first served: the process has one slot.
        self.slot = asyncio.Semaphore(1)
        self.session = aiohttp.ClientSession(
            ready["url"],
            headers={"Authorization": f"Bearer {ready['key']}"},
            timeout=aiohttp.ClientTimeout(total=None),
            # A kept connection may be closed by the other side just as it is used again.
            connector=aiohttp.TCPConnector(force_close=True),
            read_bufsize=1 << 22,  # an event is one line, and lines longer than this are refused
        )

    @property
    def alive(self) -> bool:
        """Whether the process runs, as far as is known."""
        return self.process.returncode is None and not self.broken

    async def post(self, path: str, body: dict[str, Any]) -> Any:
        """One call of llama.cpp's server and its answer."""
        async with self._call(path, body) as response:
            return orjson.loads(await response.read())

    async def completion(self, body: dict[str, Any]) -> AsyncGenerator[dict[str, Any]]:
        """The events of a completion; the last one has `stop` set. Leaving early makes llama.cpp stop."""
        async with self._call("/completion", body | {"stream": True}) as response:
            async for line in response.content:
                name, _, event = line.strip().partition(b": ")
                if name == b"error":
                    raise Refusal(500, _message(event))
                if name == b"data" and event != b"[DONE]":
                    piece: dict[str, Any] = orjson.loads(event)
                    if "error" in piece:
                        raise Refusal(500, _message(event))
                    yield piece

    @asynccontextmanager
    async def _call(self, path: str, body: dict[str, Any]) -> AsyncIterator[aiohttp.ClientResponse]:
        try:
            async with self.session.post(path, data=orjson.dumps(body)) as response:
                if response.status >= 400:
                    raise Refusal(response.status, _message(await response.read()))
                yield response
        except (aiohttp.ClientError, ValueError) as error:
            self.broken = True
            raise Refusal(500, STOPPED) from error

    async def stop(self) -> None:
        """End the process at once: it holds nothing worth saving."""
        await self.session.close()
        if self.process.returncode is None:
            with suppress(ProcessLookupError):
                self.process.kill()
        await self.process.wait()


async def start(load: Load) -> Runner:
    """Load a model into a new process; `Refusal` if that fails."""
    process = await asyncio.create_subprocess_exec(
        # -P: the folder of the program must not come before the standard library.
        *(sys.executable, "-P", str(CHILD)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,  # Ctrl-C in the terminal is for the server, which then ends its runners
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(json.dumps(load.order()).encode() + b"\n")
        line = await process.stdout.readline()
    except BaseException:
        process.kill()
        await process.wait()
        raise
    ready = json.loads(line) if line else {"error": "it ended without a word"}
    if "error" in ready:
        await process.wait()
        raise Refusal(500, f"llama-server process has terminated: {ready['error']}")
    return Runner(load, process, ready)


def _message(body: bytes) -> str:
    """The text of llama.cpp's error object; the body itself if it is something else."""
    try:
        return str(orjson.loads(body)["error"]["message"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return body.decode(errors="replace")
