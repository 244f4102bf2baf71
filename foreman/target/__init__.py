"""The one Ollama server behind foreman: how to call it, what it has, what it holds in memory. Knows no event."""

from __future__ import annotations
