"""What happened: event types, their codec and upcasters, the log, and the feed that says a new event is durable."""

from __future__ import annotations
