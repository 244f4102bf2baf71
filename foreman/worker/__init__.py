"""The one worker: chooses what runs next, runs it on the target, and asks the ledger to record what came of it."""

from __future__ import annotations
