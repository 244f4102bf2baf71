"""The log outside of its database: exports and imports, backups, and archives of what is old."""

from __future__ import annotations
