"""What `foreman doctor` asks of the target: one real token, and whether it keeps in memory what it should.

While a daemon serves, it is its target that counts and it that is asked, in turn like everybody: a call past it could
evict its model, and this shell's settings may name another target.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from time import perf_counter
from typing import Any, Final, Protocol

import orjson

from foreman.cli.checks import Finding, Verdict
from foreman.cli.checks_daemon import AT_ONCE_S, Daemon
from foreman.config.settings import Settings
from foreman.errors import TargetBroke, TargetError, TargetRefused
from foreman.parts import target_address
from foreman.target.client import Target
from foreman.target.names import canonical

#: A token may have to wait for its model to load.
TOKEN_WITHIN_S: Final = 120.0
#: What can be done when the target is not there.
START: Final = "start Ollama (ollama serve), or let FOREMAN_OLLAMA_URL name where it runs"


class Fetch(Protocol):
    """How the target is asked: by itself, or through the daemon."""

    async def __call__(self, method: str, path: str, body: bytes | None = None, *, within_s: float) -> bytes:
        """The body of a 200. Raises TargetError."""


async def of_target(settings: Settings, daemon: Daemon | None, tell: Callable[[str], None]) -> AsyncIterator[Finding]:
    """Ask the target, through the daemon if one serves; `tell` is told what is waited for."""
    if daemon is None:
        target = Target(target_address(settings))
        try:
            async for finding in _asked(settings, target.fetch, settings.ollama_url, tell):
                yield finding
        finally:
            await target.close()
        return
    if not daemon.admits:
        yield Finding("target", Verdict.NOTE, "not looked at: the daemon's own is meant, and the daemon did not let us")
        return
    where = daemon.target_url or "the daemon's"
    if os.environ.get("FOREMAN_OLLAMA_URL") and daemon.target_url not in {"", settings.ollama_url}:
        said = f"the daemon's is {where}, and FOREMAN_OLLAMA_URL here is {settings.ollama_url}"
        yield Finding("target", Verdict.NOTE, said, "what follows is of the daemon's")
    health = daemon.health["target"]
    if health.get("reachable") is False:
        yield Finding("target", Verdict.FAILED, f"{where}: {health.get('error') or 'it does not answer'}", START)
        return
    async for finding in _asked(settings, daemon.fetch, where, tell, in_turn=True):
        yield finding


async def _asked(
    settings: Settings, fetch: Fetch, where: str, tell: Callable[[str], None], *, in_turn: bool = False
) -> AsyncIterator[Finding]:
    try:
        version = orjson.loads(await fetch("GET", "/api/version", within_s=AT_ONCE_S)).get("version")
        tags = _models(await fetch("GET", "/api/tags", within_s=AT_ONCE_S))
        loaded = _models(await fetch("GET", "/api/ps", within_s=AT_ONCE_S))
        yield Finding("target", Verdict.OK, f"{where}, Ollama {version}, {len(tags)} models")
        if not tags:
            yield Finding("models", Verdict.FAILED, "there are none", "pull one: ollama pull llama3.2")
            return
        model = _choose(settings, tags, loaded)
        tell(f"waiting for one token of {model}")
        yield await _answer(fetch, model, in_turn=in_turn)
        loaded = _models(await fetch("GET", "/api/ps", within_s=AT_ONCE_S))
        yield _memory(settings, [str(entry.get("name")) for entry in tags], loaded)
    except TargetRefused as error:
        step = "set FOREMAN_OLLAMA_TOKEN" if error.status in {401, 403} else "see what Ollama's own log says"
        yield Finding("target", Verdict.FAILED, f"HTTP {error.status}: {error}", step)
    except TargetError as error:
        yield Finding("target", Verdict.FAILED, str(error), START)
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        said = f"it does not answer as Ollama does: {error}"
        yield Finding("target", Verdict.FAILED, said, "let FOREMAN_OLLAMA_URL name an Ollama server")


def _models(body: bytes) -> list[dict[str, Any]]:
    return list(orjson.loads(body)["models"] or ())


def _embedder(settings: Settings) -> str | None:
    return canonical(settings.embed_model) if settings.embed_model else None


def _choose(settings: Settings, tags: list[dict[str, Any]], loaded: list[dict[str, Any]]) -> str:
    """A model that is in memory, so that nothing is evicted for the question; else the smallest."""
    embedder = _embedder(settings)
    for entry in loaded:
        if canonical(str(entry["name"])) != embedder and "embed" not in str(entry["name"]):
            return str(entry["name"])
    # An embedding model cannot give a token; its name nearly always says what it is.
    able = [entry for entry in tags if "embed" not in str(entry["name"]) and canonical(str(entry["name"])) != embedder]
    return str(min(able or tags, key=lambda entry: entry.get("size") or 0)["name"])


async def _answer(fetch: Fetch, model: str, *, in_turn: bool) -> Finding:
    """Whether a model gives one token."""
    question = orjson.dumps({"model": model, "prompt": "Hi", "stream": False, "options": {"num_predict": 1}})
    began = perf_counter()
    try:
        await fetch("POST", "/api/generate", question, within_s=TOKEN_WITHIN_S)
    except TargetRefused as error:
        said = f"{model} gave none: {error} (HTTP {error.status})"
        return Finding("answer", Verdict.FAILED, said, _hint(error.body) or "see what Ollama's own log says")
    except TargetBroke as error:
        # In the queue it may just have to wait for its turn.
        verdict = Verdict.WARNING if in_turn else Verdict.FAILED
        return Finding("answer", verdict, f"{model} gave none: {error}", "see what runs: foreman ps" if in_turn else "")
    took = perf_counter() - began
    return Finding("answer", Verdict.OK, f"{model} gave one token in {took:.1f} s" + (", in turn" if in_turn else ""))


def _hint(body: bytes) -> str:
    """The next step that foreman's own errors name."""
    try:
        hint = orjson.loads(body)["hint"]
    except (ValueError, TypeError, KeyError):
        return ""
    return hint if isinstance(hint, str) else ""


def _memory(settings: Settings, names: list[str], loaded: list[dict[str, Any]]) -> Finding:
    """Whether the target keeps as many models in memory as foreman counts on."""
    held = {canonical(str(entry["name"])) for entry in loaded}
    said = f"{len(held)} in memory" + (f": {', '.join(sorted(held))}" if held else "")
    embedder = _embedder(settings)
    if embedder is None:
        return Finding("memory", Verdict.OK, said)
    if embedder not in map(canonical, names):
        said = f"FOREMAN_EMBED_MODEL is {settings.embed_model}, which the target does not have"
        return Finding("memory", Verdict.FAILED, said, f"ollama pull {settings.embed_model}")
    if embedder not in held and held:
        said += f"; the embedding model {embedder} is not among them"
        step = "set OLLAMA_MAX_LOADED_MODELS=2 for Ollama, so that it keeps the embedding model beside the worker's"
        return Finding("memory", Verdict.WARNING, said, step)
    return Finding("memory", Verdict.OK, said)
