"""Read models: each a fold of the log that can be dropped and rebuilt. None of them decides anything."""

from __future__ import annotations
