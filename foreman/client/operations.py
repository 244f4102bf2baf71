"""All operations in one place: what `Client` and `AsyncClient` are two ways to drive. Adds nothing."""

from __future__ import annotations

from foreman.client.daemon import Daemon
from foreman.client.follow import Following


class Operations(Following, Daemon):
    """Everything that can be asked of a daemon."""
