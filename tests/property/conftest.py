"""How long to search: quick by default; `HYPOTHESIS_PROFILE=thorough` for a night's run."""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("thorough", deadline=None, max_examples=5_000)
if profile := os.environ.get("HYPOTHESIS_PROFILE"):
    settings.load_profile(profile)
