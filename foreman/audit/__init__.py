"""Checks a database against its log and says what is wrong, where, since when, and what to do. Changes nothing."""

from __future__ import annotations
