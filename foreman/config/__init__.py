"""The settings: one table that is read, checked and documented. Touches nothing but the mapping it is given."""

from __future__ import annotations
