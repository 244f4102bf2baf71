"""Webhooks: tells receivers of their jobs' transitions, from the outbox that the events wrote."""

from __future__ import annotations
