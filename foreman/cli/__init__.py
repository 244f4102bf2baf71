"""The command line: one module per group of verbs."""

from __future__ import annotations

from foreman.cli.root import main

__all__ = ["main"]
