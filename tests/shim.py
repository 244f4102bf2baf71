"""What `pytest-sanic` 1.9.1 needs to work with a present-day Sanic, and nothing else.

Its client sets `is_running` on the application and expects it to have been started. Sanic empties `__slots__` by a
metaclass, so the subclass has to name the slot again.
"""

from __future__ import annotations

from sanic import Sanic


class SlottedSanic(Sanic):
    """A Sanic application that pytest-sanic's client may write on."""

    __slots__ = ("is_running",)


async def started(app: Sanic) -> Sanic:
    """The application after its start-up, as the plugin's `sanic_client` takes it."""
    await app._startup()
    return app
