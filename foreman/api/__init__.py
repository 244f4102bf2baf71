"""HTTP: parse a request, ask the ledger or a read model, say what came of it. Decides nothing of the domain."""

from __future__ import annotations
