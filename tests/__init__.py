"""Tests. Packages only where modules are shared between them."""

from __future__ import annotations
