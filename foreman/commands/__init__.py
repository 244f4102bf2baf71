"""The only way to change anything: commands, the pure rules that judge them, and the ledger that writes."""

from __future__ import annotations
