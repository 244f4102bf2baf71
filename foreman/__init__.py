"""foreman: a durable queue in front of one Ollama server that stays Ollama on the wire."""

from __future__ import annotations

__version__ = "0.1.0"
