"""One Chromium, and one event loop for it, for all tests of this folder."""

from __future__ import annotations

import asyncio

import pytest

from tests.browser.chromium import chromium


# The plugin's own loop lives as long as one test; a browser started anew for each would take most of the time.
@pytest.fixture(scope="package")
def loop():
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield loop
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()


@pytest.fixture(scope="package")
def browser(loop):
    running = chromium()
    yield loop.run_until_complete(running.__aenter__())
    loop.run_until_complete(running.__aexit__(None, None, None))
