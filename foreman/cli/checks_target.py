"""What `foreman doctor` asks of the target: one real token, and whether it keeps in memory what it should.

While a daemon serves, the token is asked through it, in turn like everybody's: a call past it could evict its model.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Final

import httpx
import orjson

from foreman.cli.checks import Finding, Verdict
from foreman.config.settings import Settings
from foreman.errors import TargetError, TargetRefused
from foreman.parts import target_address
from foreman.target.client import Target
from foreman.target.names import canonical

#: Lists come at once or not at all; a token may have to wait for its model to load.
LIST_WITHIN_S: Final = 10.0
TOKEN_WITHIN_S: Final = 120.0
#: What can be done when the target is not there.
START: Final = "start Ollama (ollama serve), or let FOREMAN_OLLAMA_URL name where it runs"


@dataclass(frozen=True, slots=True)
class Daemon:
    """A foreman that serves, as `/healthz` describes it, and how to reach it."""

    url: str
    token: str | None
    health: dict[str, Any]


async def of_daemon(url: str, token: str | None) -> tuple[Daemon | None, Finding]:
    """The foreman that serves at the address, if one does."""
    try:
        async with httpx.AsyncClient(timeout=LIST_WITHIN_S, trust_env=False) as client:
            health = (await client.get(f"{url}/healthz")).json()
            daemon = Daemon(url, token, {**health})
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, TypeError):
        return None, Finding("daemon", Verdict.NOTE, f"none serves at {url}", "foreman serve")
    if "sqlite_version" not in health:
        said = f"what answers at {url} is no foreman"
        return None, Finding("daemon", Verdict.FAILED, said, "let FOREMAN_URL name foreman's own address")
    said = f"{url}, version {health.get('version')}, jobs waiting: {health['queue']['waiting']:,}"
    if health.get("degraded"):
        return daemon, Finding("daemon", Verdict.WARNING, f"{said}; its target is away", START)
    return daemon, Finding("daemon", Verdict.OK, said)


async def of_target(settings: Settings, daemon: Daemon | None, tell: Callable[[str], None]) -> AsyncIterator[Finding]:
    """Ask the target; `tell` is told what is waited for."""
    target = Target(target_address(settings))
    try:
        version = orjson.loads(await target.fetch("GET", "/api/version", within_s=LIST_WITHIN_S)).get("version")
        tags = _models(await target.fetch("GET", "/api/tags", within_s=LIST_WITHIN_S))
        loaded = _models(await target.fetch("GET", "/api/ps", within_s=LIST_WITHIN_S))
        yield Finding("target", Verdict.OK, f"{settings.ollama_url}, Ollama {version}, {len(tags)} models")
        if not tags:
            yield Finding("models", Verdict.FAILED, "there are none", "pull one: ollama pull llama3.2")
            return
        model = _choose(settings, tags, loaded)
        tell(f"waiting for one token of {model}")
        yield await _token(target, daemon, model)
        loaded = _models(await target.fetch("GET", "/api/ps", within_s=LIST_WITHIN_S))
        yield _memory(settings, [str(entry.get("name")) for entry in tags], loaded)
    except TargetRefused as error:
        step = "set FOREMAN_OLLAMA_TOKEN" if error.status in {401, 403} else "see what Ollama's own log says"
        yield Finding("target", Verdict.FAILED, f"HTTP {error.status}: {error}", step)
    except TargetError as error:
        yield Finding("target", Verdict.FAILED, str(error), START)
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        said = f"it does not answer as Ollama does: {error}"
        yield Finding("target", Verdict.FAILED, said, "let FOREMAN_OLLAMA_URL name an Ollama server")
    finally:
        await target.close()


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


async def _token(target: Target, daemon: Daemon | None, model: str) -> Finding:
    question = orjson.dumps({"model": model, "prompt": "Hi", "stream": False, "options": {"num_predict": 1}})
    began = perf_counter()
    if daemon is None:
        await target.fetch("POST", "/api/generate", question, within_s=TOKEN_WITHIN_S)
    else:
        headers = {"authorization": f"Bearer {daemon.token}"} if daemon.token else {}
        try:
            async with httpx.AsyncClient(timeout=TOKEN_WITHIN_S, trust_env=False) as client:
                answer = await client.post(f"{daemon.url}/api/generate", content=question, headers=headers)
        except httpx.TimeoutException:
            said = f"{model} gave none within {TOKEN_WITHIN_S:.0f} s, its wait in the queue included"
            return Finding("token of it", Verdict.WARNING, said, "see what runs: foreman ps")
        except httpx.HTTPError as error:
            return Finding("token of it", Verdict.FAILED, f"{daemon.url}: {error}", "see foreman's log")
        if answer.is_error:
            step = "set FOREMAN_TOKEN to the daemon's" if answer.status_code == httpx.codes.UNAUTHORIZED else ""
            return Finding("token of it", Verdict.FAILED, f"HTTP {answer.status_code}: {answer.text[:300]}", step)
    took = perf_counter() - began
    return Finding("token of it", Verdict.OK, f"{model} gave one in {took:.1f} s" + (", in turn" if daemon else ""))


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
