"""The job's state machine: one table that decides, folds history and draws the diagram. Pure."""

from __future__ import annotations
