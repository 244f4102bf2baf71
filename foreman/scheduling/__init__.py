"""What runs next, and when: the rule of choosing, and the forecast that plays it forward. Starts nothing itself."""

from __future__ import annotations
