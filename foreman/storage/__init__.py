"""SQLite mechanics: the file, its one writing connection, its readers, its lock. Knows no word of the domain."""

from __future__ import annotations
