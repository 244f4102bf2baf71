"""What must hold for any input or history, not only for those somebody thought of."""

from __future__ import annotations
