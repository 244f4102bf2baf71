"""Model names as Ollama reads them: parts, defaults, limits, and the `:local` and `:cloud` suffixes."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tests.fakes import gojson

_HOST, _NAMESPACE, _TAG = "registry.ollama.ai", "library", "latest"
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,79}", re.ASCII)
_NAMESPACE_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_\-]{0,79}", re.ASCII)
_HOST_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:\-]{0,349}", re.ASCII)


class NoName(Exception):
    """No name was given."""


class BadName(Exception):
    """The name cannot be one."""


class BothSources(Exception):
    """The name says both `:local` and `:cloud`."""


@dataclass(frozen=True)
class Name:
    """A full model name."""

    host: str
    namespace: str
    model: str
    tag: str

    @property
    def shortest(self) -> str:
        """The name as Ollama lists it: the tag always, the rest only where it is not the default."""
        short = f"{self.model}:{self.tag}"
        if self.host.lower() != _HOST:
            return f"{self.host}/{self.namespace}/{short}"
        return short if self.namespace.lower() == _NAMESPACE else f"{self.namespace}/{short}"

    @property
    def full(self) -> str:
        """Every part."""
        return f"{self.host}/{self.namespace}/{self.model}:{self.tag}"

    @property
    def key(self) -> str:
        """What makes two names the same: Ollama compares without regard to case."""
        return self.full.lower()


def parse(text: str) -> Name:
    """`[scheme://][host/][namespace/]model[:tag]`."""
    tag = _TAG
    if text.rfind(":") > text.rfind("/"):
        text, _, tag = text.rpartition(":")
    rest, slash, model = text.rpartition("/")
    host, namespace = _HOST, _NAMESPACE
    if slash:
        before, slash, namespace = rest.rpartition("/")
        if slash:
            host = before.partition("://")[2] if "://" in before else before
    parts = ((_HOST_PART, host), (_NAMESPACE_PART, namespace), (_PART, model), (_PART, tag))
    if not all(pattern.fullmatch(part) for pattern, part in parts):
        raise BadName(text)
    return Name(host, namespace, model, tag)


def reference(text: str) -> tuple[Name, bool]:
    """The name in a request, and whether it asks for the cloud's copy."""
    text = text.strip()
    if not text:
        raise NoName
    base, source = _source(text)
    if source and _source(base)[1]:
        raise BothSources(f"use either :local or :cloud, not both: {gojson.quote(text)}")
    return parse(base), source == "cloud"


def _source(text: str) -> tuple[str, str]:
    base, colon, suffix = text.rpartition(":")
    suffix = suffix.strip()
    if colon and suffix.lower() in ("cloud", "local"):
        return base, suffix.lower()
    if colon and "/" not in suffix and suffix.lower().endswith("-cloud"):
        return f"{base}:{suffix[: -len('-cloud')]}", "cloud"
    return text, ""
