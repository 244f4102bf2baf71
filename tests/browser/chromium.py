"""Which Chromium the tests drive, and how it is started. Knows nothing of foreman.

It is the system's own, never one that Playwright would download.
"""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from playwright.async_api import Browser, async_playwright, expect

from tests.kit import PATIENCE_S

#: The names it goes by, Debian's first.
NAMES = ("chromium", "chromium-browser", "google-chrome")
#: Beyond what Playwright gives by itself: it runs as root, without a display, and on a machine that reaches no network.
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)


def executable() -> str:
    """Where Chromium is."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        raise AssertionError(f"none of {', '.join(NAMES)} is installed; on Debian: apt-get install chromium")
    return found


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """A Chromium with an empty profile of its own, ended with the block."""
    expect.set_options(timeout=PATIENCE_S * 1000)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=executable(), args=FLAGS)
        try:
            yield browser
        finally:
            await browser.close()
