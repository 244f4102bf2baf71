"""Which load key the target holds in its rotating slot, as far as foreman can know; a pinned embedder is beside it."""

from __future__ import annotations

from foreman.clock import Clock
from foreman.target.inventory import Listing
from foreman.target.names import identity_of


class Residency:
    """The resident load key: what foreman loaded last, corrected by what the target lists."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._changed_at = clock.monotonic()
        self.key: str | None = None
        #: The digest of the pinned embedder: it is loaded beside the resident model and is never it.
        self.pinned: str | None = None

    def loaded(self, key: str) -> None:
        """The target has just loaded this, or answered with it."""
        self.key = key
        self._changed_at = self._clock.monotonic()

    def lost(self) -> None:
        """Nothing is known to be resident any more."""
        self.key = None
        self._changed_at = self._clock.monotonic()

    def observe(self, listing: Listing, began: float) -> None:
        """Take a listing into account, unless it was asked for before the last change."""
        if began < self._changed_at:
            return
        loaded = [digest for digest in listing.loaded if digest != self.pinned]
        if self.key is not None and identity_of(self.key) not in loaded:
            self.key = None
        if self.key is None and loaded:
            # With which options it was loaded nobody can tell; without any is the likeliest.
            self.key = loaded[0]
