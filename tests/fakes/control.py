"""Steering the fake from another process: `/_control` and the command line. Offers nothing that `FakeOllama` has not.

GET gives the record. POST takes a JSON object with any of: `set` (fields of Behaviour), `inject` (the arguments of
`inject`), `hold` (those of `hold`), `release`, `forget` (empty the record), `add` and `remove` (model names),
`away` (seconds to be gone for). It answers with the record.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import dataclasses
import signal
import sys
from typing import TYPE_CHECKING, Any

import orjson
from aiohttp import web

from tests.fakes import names
from tests.fakes.machine import FakeModel

if TYPE_CHECKING:
    from tests.fakes.faults import Call
    from tests.fakes.ollama import FakeOllama

_away: set[asyncio.Task[None]] = set()


async def answer(fake: FakeOllama, request: web.BaseRequest) -> web.Response:
    """The control endpoint."""
    body = await request.content.read()
    if request.method == "POST":
        try:
            _obey(fake, orjson.loads(body or b"{}"))
        except (KeyError, TypeError, ValueError) as error:
            return web.Response(status=400, text=f"{type(error).__name__}: {error}")
    return web.Response(body=orjson.dumps(record(fake)), content_type="application/json")


def record(fake: FakeOllama) -> dict[str, Any]:
    """All that happened so far, as JSON can hold it."""
    machine = fake.machine
    return {
        "calls": [_call(call) for call in fake.calls],
        "loads": [dataclasses.asdict(key) for key in machine.loads],
        "loaded_models": fake.loaded_models,
        "aborted_loads": [key.model for key in machine.aborted_loads],
        "resident": [resident.model.name for resident in machine.resident],
        "running": [key.model for key in machine.running],
        "max_concurrent": machine.max_concurrent,
        "max_concurrent_keys": machine.max_concurrent_keys,
        "behaviour": dataclasses.asdict(fake.behaviour),
    }


def _call(call: Call) -> dict[str, Any]:
    shown = {name: getattr(call, name) for name in ("number", "method", "path", "headers", "kind", "model", "status")}
    shown |= {name: getattr(call, name) for name in ("lines", "aborted", "started_at", "finished_at")}
    return shown | {"body": base64.b64encode(call.body).decode(), "fault": call.fault.kind if call.fault else None}


def _obey(fake: FakeOllama, order: dict[str, Any]) -> None:
    for name, value in order.items():
        if name == "set":
            fake.behaviour.change(**value)
        elif name == "inject":
            fake.inject(**value)
        elif name == "hold":
            fake.hold(**value)
        elif name == "release":
            fake.release()
        elif name == "forget":
            fake.calls = [call for call in fake.calls if not call.finished_at]
            fake.machine.loads.clear()
            fake.machine.max_concurrent = fake.machine.max_concurrent_keys = 0
        elif name == "add":
            fake.store.add(FakeModel(value))
        elif name == "remove":
            fake.store.remove(names.parse(value))
        elif name == "away":
            task = asyncio.get_running_loop().create_task(_be_away(fake, float(value)))
            _away.add(task)
            task.add_done_callback(_away.discard)
        else:
            raise KeyError(name)


async def _be_away(fake: FakeOllama, seconds: float) -> None:
    await asyncio.sleep(0.01)  # so that the order itself is still answered
    await fake.go_away()
    await asyncio.sleep(seconds)
    await fake.come_back()


def main(fake_type: type[FakeOllama], arguments: list[str] | None = None) -> None:
    """Run as a process of its own: one line with the URL when ready, then serve until told to stop."""
    parser = argparse.ArgumentParser(prog="python -m tests.fakes.ollama", description="A fake Ollama server.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--models", default="a,b,c", help="names with commas between them")
    parser.add_argument("--load", type=float, default=0.0, help="seconds a load takes")
    parser.add_argument("--token", type=float, default=0.0, help="seconds a token takes")
    parser.add_argument("--tokens", type=int, default=None, help="tokens of every answer")
    parser.add_argument("--parallel", type=int, default=1)
    parser.add_argument("--max-loaded", type=int, default=1)
    parser.add_argument("--keep-alive", type=float, default=300.0)
    parser.add_argument("--any-host", action="store_true", help="do not check the Host header")
    chosen = parser.parse_args(arguments)
    asyncio.run(_serve(fake_type, chosen))


async def _serve(fake_type: type[FakeOllama], chosen: argparse.Namespace) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    fake = fake_type(
        chosen.models.split(","),
        port=chosen.port,
        load_seconds=chosen.load,
        seconds_per_token=chosen.token,
        tokens=chosen.tokens,
        parallel=chosen.parallel,
        max_loaded=chosen.max_loaded,
        keep_alive=chosen.keep_alive,
        check_host=not chosen.any_host,
    )
    async with fake:
        sys.stdout.write(fake.url + "\n")
        sys.stdout.flush()
        with contextlib.suppress(asyncio.CancelledError):
            await stopped.wait()
