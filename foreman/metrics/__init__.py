"""Metrics for Prometheus: what the log gives, how things stand, and what the process measures of itself."""

from __future__ import annotations
