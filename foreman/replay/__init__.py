"""Reads the log anew: into a fresh database, up to a moment, or through another scheduler."""

from __future__ import annotations
