"""What `pytest-sanic` 1.9.1 needs to work with a present-day Sanic, and nothing else.

Its client sets `is_running` on the application and expects it to have been started. Sanic empties `__slots__` by a
metaclass, so the subclass has to name the slot again.
"""

from __future__ import annotations

from typing import Any

from sanic import Sanic

from foreman.api.desk import Desk
from foreman.api.server import create_app


class SlottedSanic(Sanic):
    """A Sanic application that pytest-sanic's client may write on."""

    __slots__ = ("is_running",)


async def started(app: Sanic) -> Sanic:
    """The application after its start-up, as the plugin's `sanic_client` takes it."""
    await app._startup()
    return app


async def plugged(sanic_client: Any, desk: Desk) -> Any:
    """The plugin's client to foreman's application over this desk, beside the one that serves it already."""
    return await sanic_client(await started(create_app(desk, name="plugged", app_class=SlottedSanic)))
