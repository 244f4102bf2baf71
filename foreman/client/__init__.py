"""What a program that uses foreman imports. Importable alone: brings nothing of the daemon with it."""

from __future__ import annotations

from foreman.client.signatures import SignatureInvalid, verify_signature

__all__ = ["SignatureInvalid", "verify_signature"]
