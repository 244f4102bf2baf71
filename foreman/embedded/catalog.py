"""The models on offer: their names, digests and what `/api/tags` and `/api/show` say of them. Loads nothing."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson

from foreman.embedded.gguf import Header, read_header
from foreman.embedded.weights import sha256_of

if TYPE_CHECKING:
    from pathlib import Path

NAME_PART = re.compile(r"[A-Za-z0-9_][\w.-]{0,79}", re.ASCII)
DEFAULT_HOST, DEFAULT_NAMESPACE, DEFAULT_TAG = "registry.ollama.ai", "library", "latest"

#: At temperature 0 and without a penalty or a cap so small a model repeats itself for ever.
SAMPLING = {"temperature": 0.8, "top_k": 40, "top_p": 0.9, "repeat_penalty": 1.1, "num_predict": 512}
#: Suffix of the name, system prompt, parameters. Several models over one file, as `ollama create` makes them, so that a
#: queue in front has models to swap.
VARIANTS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("", "", {}),
    ("-concise", "Answer in one short sentence.", {"temperature": 0.2, "num_predict": 64}),
    ("-story", "You tell short stories for children.", {"temperature": 1.0, "num_predict": 256}),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One name on offer: a GGUF file with a system prompt and parameters."""

    name: str
    gguf: Path
    header: Header
    file_sha256: str
    system: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    capabilities: tuple[str, ...] = ("completion",)

    @property
    def embeds(self) -> bool:
        """Whether it makes embeddings (and nothing else)."""
        return "embedding" in self.capabilities

    @property
    def full_name(self) -> str:
        """The name with host and namespace, as Ollama's capability errors have it."""
        return f"{DEFAULT_HOST}/{DEFAULT_NAMESPACE}/{self.name}"

    @property
    def layers(self) -> list[dict[str, Any]]:
        """The layers of an Ollama manifest for this model."""
        size = self.gguf.stat().st_size
        model = {"mediaType": _media("model"), "digest": f"sha256:{self.file_sha256}", "size": size}
        return [
            model,
            *([_layer("system", self.system.encode())] if self.system else []),
            *([_layer("params", orjson.dumps(self.options))] if self.options else []),
        ]

    @property
    def digest(self) -> str:
        """The hash of the manifest: two models over one file differ if anything of them differs."""
        return hashlib.sha256(orjson.dumps({"schemaVersion": 2, "layers": self.layers})).hexdigest()

    @property
    def details(self) -> dict[str, Any]:
        """The object that tags, ps and show have in common."""
        family = self.header.metadata.get("general.architecture", "")
        return {
            "parent_model": "",
            "format": "gguf",
            "family": family,
            "families": [family],
            "parameter_size": _human(self.header.parameter_count),
            "quantization_level": self.header.quantization,
        }

    @property
    def modified_at(self) -> str:
        """When the file got its place."""
        return local_time(self.gguf.stat().st_mtime)

    def listed(self) -> dict[str, Any]:
        """The entry in `/api/tags`."""
        lengths = {key: self.header.of_architecture(key) for key in ("context_length", "embedding_length")}
        return {
            "name": self.name,
            "model": self.name,
            "modified_at": self.modified_at,
            "size": sum(layer["size"] for layer in self.layers),
            "digest": self.digest,
            "details": self.details | lengths,
            "capabilities": list(self.capabilities),
        }

    def shown(self, system: str) -> dict[str, Any]:
        """The answer of `/api/show`. Vocabularies are left out even when `verbose` asks for them."""
        metadata = dict(self.header.metadata)
        metadata.pop("general.name", None)
        template = metadata.pop("tokenizer.chat_template", "")
        pairs = [
            (key, each)
            for key, value in self.options.items()
            for each in (value if isinstance(value, list) else [value])
        ]
        lines = ["# Modelfile of a model that foreman runs itself", f"FROM {self.gguf.name}"]
        lines += [f'SYSTEM """{self.system}"""'] if self.system else []
        lines += [f"PARAMETER {key} {value}" for key, value in pairs]
        answer = {
            "license": metadata.get("general.license", ""),
            "modelfile": "\n".join(lines) + "\n",
            "parameters": "\n".join(f"{key:<30} {orjson.dumps(value).decode()}" for key, value in pairs),
            "template": template,
            "system": system or self.system,
            "details": self.details,
            "model_info": metadata | {"general.parameter_count": self.header.parameter_count},
            "capabilities": list(self.capabilities),
            "modified_at": self.modified_at,
        }
        return {key: value for key, value in answer.items() if value != ""}


class Catalog:
    """All models on offer, found by any spelling of their name."""

    def __init__(self, models: list[Model]) -> None:
        self.models = {normal_name(model.name): model for model in models}

    def find(self, requested: str) -> Model | None:
        """The model of that name; `ValueError` if no model could have it."""
        return self.models.get(normal_name(requested))


def chat_models(gguf: Path) -> list[Model]:
    """The variants over one chat model's file, named by what the file says of itself."""
    header, file_sha256 = read_header(gguf), sha256_of(gguf)
    stem = _name_part(header.metadata.get("general.basename") or gguf.stem)
    tag = _name_part(header.metadata.get("general.size_label") or DEFAULT_TAG)
    return [
        Model(
            name=f"{stem}{suffix}:{tag}",
            gguf=gguf,
            header=header,
            file_sha256=file_sha256,
            system=system,
            options=SAMPLING | options,
        )
        for suffix, system, options in VARIANTS
    ]


def minilm_model(gguf: Path) -> Model:
    """The embedding model, with the context that Ollama gives it."""
    return Model(
        name="all-minilm:latest",
        gguf=gguf,
        header=read_header(gguf),
        file_sha256=sha256_of(gguf),
        options={"num_ctx": 256},
        capabilities=("embedding",),
    )


def normal_name(requested: str) -> str:
    """`host/namespace/model:tag` in lower case with the defaults filled in; `ValueError` if it cannot be a name."""
    *places, model = requested.strip().rpartition("://")[2].split("/")
    model, _, tag = model.partition(":")
    if not 0 <= len(places) <= 2:
        raise ValueError("invalid model name")
    host, namespace = [DEFAULT_HOST, DEFAULT_NAMESPACE][: 2 - len(places)] + places
    tag = tag or DEFAULT_TAG
    # A host may carry a port.
    if not all(NAME_PART.fullmatch(part) for part in (host.replace(":", "."), namespace, model, tag)):
        raise ValueError("invalid model name")
    return f"{host}/{namespace}/{model}:{tag}".lower()


def local_time(at_s: float) -> str:
    """A moment with the server's own offset, as Ollama writes it."""
    return datetime.fromtimestamp(at_s, UTC).astimezone().isoformat().replace("+00:00", "Z")


def _name_part(text: str) -> str:
    return re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip(".-")[:60] or "model"


def _media(kind: str) -> str:
    return f"application/vnd.ollama.image.{kind}"


def _layer(kind: str, content: bytes) -> dict[str, Any]:
    return {"mediaType": _media(kind), "digest": f"sha256:{hashlib.sha256(content).hexdigest()}", "size": len(content)}


def _human(count: int) -> str:
    """`134.52M`, as Ollama prints numbers of parameters."""
    for unit, letter, digits in ((1e9, "B", 1), (1e6, "M", 2), (1e3, "K", 0)):
        if count >= unit:
            number = count / unit
            return f"{number:.{0 if number.is_integer() else digits}f}{letter}"
    return str(count)
