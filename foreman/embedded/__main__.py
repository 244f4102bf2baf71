"""`python -m foreman.embedded`: the process of the embedded server. Composes it and owns its signals; decides nothing.

Prints one line of JSON to stdout: `{"url": ...}` when it is ready, or `{"error": ..., "code": ...}` before it exits 1.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib
import json
import os
import platform
import signal
import sys
from pathlib import Path

from aiohttp import web

from foreman.clock import SystemClock
from foreman.embedded.catalog import Catalog, chat_models, minilm_model
from foreman.embedded.residency import Residency
from foreman.embedded.weights import MINILM, SMOLLM2, default_cache, fetch
from foreman.embedded.wire import Wire
from foreman.errors import ConfigError, ForemanError, Unavailable

INSTALL = "pip install 'foreman-ollama[embedded]'"


def check_runtime() -> None:
    """Raise `ConfigError`, with what to do about it, if llama.cpp cannot run here."""
    # Probed first: without AVX2 the import itself dies of an illegal instruction.
    cpu = Path("/proc/cpuinfo")
    if platform.machine() == "x86_64" and cpu.exists() and " avx2" not in cpu.read_text():
        raise ConfigError(
            "the embedded model needs a processor with AVX2, which this one lacks; use an Ollama server instead"
        )
    try:
        importlib.import_module("xllamacpp")
    except ModuleNotFoundError as error:
        raise ConfigError(f"the embedded model needs xllamacpp, which is not installed: {INSTALL}") from error
    except ImportError as error:
        if "libgomp" in str(error):
            message = "the embedded model needs libgomp.so.1: install the Debian package libgomp1"
            raise ConfigError(message) from error
        raise ConfigError(f"xllamacpp cannot be loaded: {error}") from error


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m foreman.embedded", description="A small real model behind Ollama's wire."
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 picks a free one")
    parser.add_argument("--cache", type=Path, default=default_cache(), help="folder for the model file (%(default)s)")
    parser.add_argument(
        "--gguf",
        type=Path,
        default=os.environ.get("FOREMAN_EMBEDDED_GGUF") or None,
        help="a chat model's GGUF file to serve instead of fetching one (or FOREMAN_EMBEDDED_GGUF)",
    )
    parser.add_argument("--embeddings", action="store_true", help="offer all-minilm too: another 84 MB to fetch")
    parser.add_argument("--max-loaded", type=int, default=1, help="models loaded at once (%(default)s)")
    parser.add_argument("--until-stdin-closes", action="store_true", help="end when stdin closes: for a parent process")
    return parser.parse_args()


async def serve(options: argparse.Namespace) -> None:
    """Fetch the model if need be, then serve until cancelled."""
    check_runtime()
    gguf = Path(options.gguf) if options.gguf else await fetch(SMOLLM2, options.cache)
    clock = SystemClock()
    models = await asyncio.to_thread(chat_models, gguf)
    if options.embeddings:
        models.append(await asyncio.to_thread(minilm_model, await fetch(MINILM, options.cache)))
    residency = Residency(clock, max_loaded=max(1, options.max_loaded))
    # A caller that leaves cancels its handler, which stops the generation.
    app = web.AppRunner(
        Wire(Catalog(models), residency, clock).app(), handler_cancellation=True, access_log=None, shutdown_timeout=0.1
    )
    await app.setup()
    try:
        site = web.TCPSite(app, options.host, options.port)
        try:
            await site.start()
        except OSError as error:
            raise Unavailable(f"cannot listen on {options.host}:{options.port}: {error}") from error
        host, port = app.addresses[0][:2]
        say({"url": f"http://{host}:{port}"})
        await residency.run()
    finally:
        await app.cleanup()


async def until_stopped(options: argparse.Namespace) -> None:
    """Serve until a signal comes or, if asked for, stdin closes."""
    loop = asyncio.get_running_loop()
    server = asyncio.create_task(serve(options), name="embedded-server")
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, server.cancel)
    if options.until_stdin_closes:
        # Nobody writes to it, so the only thing to read is its end.
        loop.add_reader(sys.stdin, lambda: (loop.remove_reader(sys.stdin), server.cancel()))
    with contextlib.suppress(asyncio.CancelledError):
        await server


def say(line: dict[str, str]) -> None:
    """The one line on stdout."""
    print(json.dumps(line), flush=True)  # noqa: T201


def main() -> int:
    """Run the server; the exit status."""
    try:
        asyncio.run(until_stopped(arguments()))
    except ForemanError as error:
        say({"error": str(error), "code": error.code})
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
