"""Where a webhook goes: its URL, the addresses behind it, and whether foreman may send there."""

from __future__ import annotations

from foreman.destinations.judge import Destinations
from foreman.destinations.lookup import Place, Resolve, resolve
from foreman.destinations.url import Destination, parse_url

__all__ = ["Destination", "Destinations", "Place", "Resolve", "parse_url", "resolve"]
