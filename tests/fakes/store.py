"""The models on the fake's disk, and the routes that list and change them. Loads nothing."""

from __future__ import annotations

import copy
import hashlib
import re
from dataclasses import replace
from typing import Any

from tests.fakes import gojson, names, replies
from tests.fakes.exchange import JSON, JSON_BARE, Exchange, read
from tests.fakes.machine import FakeModel, Machine
from tests.fakes.names import BadName, BothSources, Name, NoName

_DIGEST = re.compile(r"sha256[-:][0-9a-fA-F]{64}")
_CLOUD_OFF = "ollama cloud is disabled: remote model details are unavailable"


class Store:
    """Models by name, and blobs."""

    def __init__(self, models: list[FakeModel]) -> None:
        self._models = {names.parse(model.name).key: model for model in models}
        self.blobs: dict[str, bytes] = {}

    def models(self) -> list[FakeModel]:
        """All models, newest first."""
        return sorted(self._models.values(), key=lambda model: model.modified_at, reverse=True)

    def find(self, name: Name) -> FakeModel | None:
        """The model of that name."""
        return self._models.get(name.key)

    def add(self, model: FakeModel) -> None:
        """Put a model on the disk."""
        self._models[names.parse(model.name).key] = model

    def remove(self, name: Name) -> bool:
        """Remove a model; was it there?"""
        return self._models.pop(name.key, None) is not None


class Library:
    """The routes about models rather than with them."""

    def __init__(self, store: Store, machine: Machine) -> None:
        self.store, self.machine = store, machine

    async def root(self, exchange: Exchange) -> None:
        """GET and HEAD /."""
        await exchange.send(200, b"Ollama is running", "text/plain; charset=utf-8")

    async def version(self, exchange: Exchange) -> None:
        """GET /api/version."""
        await exchange.json({"version": self.machine.behaviour.version})

    async def status(self, exchange: Exchange) -> None:
        """GET /api/status."""
        await exchange.json({"cloud": {"disabled": True, "source": "env"}})

    async def tags(self, exchange: Exchange) -> None:
        """GET /api/tags."""
        await exchange.json({"models": [_listed(model) for model in self.store.models()]})

    async def ps(self, exchange: Exchange) -> None:
        """GET /api/ps: what is loaded, the longest-lived first."""
        found = sorted(self.machine.resident, key=lambda resident: resident.expires_at, reverse=True)
        listed = []
        for resident in found:
            model = resident.model
            entry = {"name": model.name, "model": model.name, "size": model.vram, "digest": model.digest}
            entry["details"] = model.details()
            entry["expires_at"] = replies.timestamp(int(resident.expires_at * 1e9))
            entry["size_vram"] = model.vram
            entry["context_length"] = resident.key.num_ctx or min(4096, model.context_length)
            listed.append(entry)
        await exchange.json({"models": listed})

    async def show(self, exchange: Exchange) -> None:
        """POST /api/show."""
        request = read(exchange)
        asked = request.get("model") or request.get("name") or ""
        try:
            name, cloud = names.reference(asked)
        except NoName:
            return await exchange.error(400, "model is required")
        except BadName:
            return await exchange.error(400, "invalid model name")
        except BothSources as error:
            return await exchange.error(400, str(error))
        model = self.store.find(name)
        if cloud:
            return await exchange.error(403, _CLOUD_OFF)
        if model is None:
            return await exchange.error(404, f"model '{name.shortest}' not found")
        return await exchange.send(200, model.show or _shown(model), JSON)

    async def copy(self, exchange: Exchange) -> None:
        """POST /api/copy."""
        request = read(exchange)
        found: dict[str, Name] = {}
        for end in ("source", "destination"):
            text = request.get(end, "")
            try:
                found[end] = names.parse(text)
            except BadName:
                return await exchange.error(400, f"{end} {gojson.quote(text)} is invalid")
        model = self.store.find(found["source"])
        if model is None and found["source"] != found["destination"]:
            return await exchange.error(404, f'model "{request["source"]}" not found')
        if model is not None and found["source"].key != found["destination"].key:
            self.store.add(
                replace(copy.copy(model), name=found["destination"].shortest, modified_at=replies.timestamp())
            )
        return await exchange.send(200)

    async def delete(self, exchange: Exchange) -> None:
        """DELETE /api/delete."""
        request = read(exchange)
        asked = request.get("model") or request.get("name") or ""
        try:
            name, _ = _stored_reference(asked)
        except NoName:
            return await exchange.error(400, "model is required")
        except BadName:
            return await exchange.error(400, f"name {gojson.quote(asked)} is invalid")
        except BothSources as error:
            return await exchange.error(400, str(error))
        if not self.store.remove(name):
            return await exchange.error(404, f"model '{asked}' not found")
        return await exchange.send(200)

    async def pull(self, exchange: Exchange) -> None:
        """POST /api/pull: any name that does not say `absent` can be had."""
        request = read(exchange)
        try:
            name, _ = _stored_reference(request.get("model") or request.get("name") or "")
        except (NoName, BadName):
            return await exchange.error(400, "invalid model name")
        except BothSources as error:
            return await exchange.error(400, str(error))
        steps: list[dict[str, Any]] = [{"status": "pulling manifest"}]
        if "absent" in name.model:
            return await _progress(exchange, request, steps, (500, "pull model manifest: file does not exist"))
        model = self.store.find(name) or FakeModel(name.shortest, modified_at=replies.timestamp())
        self.store.add(model)
        layer = {"status": f"pulling {model.digest[:12]}", "digest": f"sha256:{model.digest}", "total": model.size}
        steps += [layer, *(layer | {"completed": model.size * part // 4} for part in range(1, 5))]
        steps += [{"status": status} for status in ("verifying sha256 digest", "writing manifest", "success")]
        return await _progress(exchange, request, steps)

    async def push(self, exchange: Exchange) -> None:
        """POST /api/push."""
        request = read(exchange)
        asked = request.get("model") or request.get("name")
        if not asked:
            return await exchange.error(400, "model is required")
        steps = [{"status": "retrieving manifest"}]
        name = names.parse(asked)
        model = self.store.find(name)
        if model is None:
            path = f"/models/manifests/{name.host}/{name.namespace}/{name.model}/{name.tag}"
            steps.append({"status": "couldn't retrieve manifest"})
            return await _progress(exchange, request, steps, (500, f"open {path}: no such file or directory"))
        steps += [{"status": f"pushing {model.digest[:12]}"}, {"status": "pushing manifest"}, {"status": "success"}]
        return await _progress(exchange, request, steps)

    async def create(self, exchange: Exchange) -> None:
        """POST /api/create, from a model that is there."""
        request = read(exchange)
        try:
            name = names.parse(request.get("model") or request.get("name") or "")
        except BadName:
            return await exchange.error(400, "invalid model name")
        if not request.get("from"):
            said = "unknown type" if request.get("files") else "neither 'from' or 'files' was specified"
            return await _progress(exchange, request, [], (400, said))
        base = self.store.find(names.parse(request["from"]))
        if base is None:
            return await _progress(exchange, request, [], (400, "pull model manifest: file does not exist"))
        self.store.add(replace(base, name=name.shortest, modified_at=replies.timestamp()))
        layer = {"status": f"using existing layer sha256:{base.digest}"}
        return await _progress(exchange, request, [layer, {"status": "writing manifest"}, {"status": "success"}])

    async def blob(self, exchange: Exchange) -> None:
        """HEAD and POST /api/blobs/:digest."""
        digest = exchange.call.path.rpartition("/")[2]
        if not _DIGEST.fullmatch(digest):
            return await exchange.error(400, "invalid digest format")
        if digest in self.store.blobs:
            return await exchange.send(200)
        if exchange.call.method == "HEAD":
            return await exchange.error(404, f'blob "{digest}" not found')
        actual = "sha256:" + hashlib.sha256(exchange.call.body).hexdigest()
        if actual != digest:
            return await exchange.error(400, f'digest mismatch, expected "{digest}", got "{actual}"')
        self.store.blobs[digest] = exchange.call.body
        return await exchange.send(201)


def _stored_reference(text: str) -> tuple[Name, bool]:
    """A name to keep or remove: the cloud's names are names like others here."""
    name, cloud = names.reference(text)
    if not cloud:
        return name, False
    tag = "cloud" if text.strip().lower().endswith(f"{name.model.lower()}:cloud") else f"{name.tag}-cloud"
    return replace(name, tag=tag), True


async def _progress(
    exchange: Exchange, request: dict[str, Any], steps: list[dict[str, Any]], error: tuple[int, str] | None = None
) -> None:
    """Status lines as a stream, or the last of them alone."""
    if not request.get("stream", True):
        if error is None:
            return await exchange.json(steps[-1], content_type=JSON_BARE)
        return await exchange.json({"error": error[1]}, error[0], JSON_BARE)
    for step in steps:
        await exchange.line(step)
    return await exchange.stream_error(*error) if error else await exchange.end()


def _listed(model: FakeModel) -> dict[str, Any]:
    lengths = {"context_length": model.context_length, "embedding_length": model.embedding_length}
    return {
        "name": model.name,
        "model": model.name,
        "modified_at": model.modified_at,
        "size": model.size,
        "digest": model.digest,
        "details": model.details() | lengths,
        "capabilities": list(model.capabilities),
    }


def _shown(model: FakeModel) -> bytes:
    info = {
        "general.architecture": model.family,
        "general.parameter_count": 8_000_000_000,
        f"{model.family}.context_length": model.context_length,
        f"{model.family}.embedding_length": model.embedding_length,
    }
    shown = {
        "modelfile": f'# Modelfile generated by "ollama show"\nFROM {model.name}\nTEMPLATE {{{{ .Prompt }}}}\n',
        "template": "{{ .Prompt }}",
        "details": model.details(),
        "model_info": info,
        "capabilities": list(model.capabilities),
        "modified_at": model.modified_at,
    }
    return gojson.encode(shown)
