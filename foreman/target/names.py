"""Model names and load keys: when two requests mean one load of one model. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

import orjson

#: Of a model's name, so many characters are taken at most.
LONGEST_NAME: Final = 512
#: The options whose change makes Ollama reload a model (ollama 0.33, needsReload).
RELOADING_OPTIONS: Final = (
    "num_ctx",
    "num_batch",
    "num_gpu",
    "main_gpu",
    "use_mmap",
    "num_thread",
    "draft_num_predict",
)
REGISTRY: Final = "registry.ollama.ai/"
LIBRARY: Final = "library/"
#: A longer option value is none that Ollama would take; its digest stands for it.
LONGEST_VALUE: Final = 32


def canonical(name: str) -> str:
    """The name as Ollama compares it: lower case, with its tag, without the default registry and namespace."""
    # `:local` only says that the model is not one of Ollama's cloud.
    short = name.strip().lower().removesuffix(":local").rstrip()
    _, separator, rest = short.partition("://")
    short = (rest if separator else short).removeprefix(REGISTRY).removeprefix(LIBRARY)
    return short if ":" in short.rpartition("/")[2] else f"{short}:latest"


def load_key(identity: str, options: Mapping[str, Any]) -> str:
    """What has to stay the same for a model to stay loaded: its digest (or name) and the options that reload it."""
    parts = [identity]
    for option in RELOADING_OPTIONS:
        value = options.get(option)
        if value is not None:
            parts.append(f"{option}={_text(value)}")
    return " ".join(parts)


def identity_of(key: str) -> str:
    """The model's digest (or name) in a load key."""
    return key.partition(" ")[0]


def _text(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # Ollama takes 4096.0 for 4096
    try:
        text = orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
    except TypeError:  # an integer beyond 64 bits, half a surrogate pair
        text = ascii(value)
    if len(text) > LONGEST_VALUE or " " in text:
        return hashlib.sha256(text.encode()).hexdigest()[:LONGEST_VALUE]
    return text
