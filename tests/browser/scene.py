"""A target, a foreman and its dashboard together, and where a person finds things on it.

Owns the names by which tests find what is shown. Must not judge what it finds.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, Locator

from tests.browser.tab import Tab, opened
from tests.fakes.machine import FakeModel
from tests.fakes.ollama import FakeOllama
from tests.kit import Running, running


@asynccontextmanager
async def scene(
    browser: Browser,
    path: Path,
    fragment: str = "",
    *,
    models: Iterable[str | FakeModel] = ("a", "b"),
    **overrides: str,
) -> AsyncIterator[tuple[FakeOllama, Running, Tab]]:
    """A target, a foreman in front of it, and the dashboard opened at a fragment of its address."""
    async with (
        FakeOllama(models) as fake,
        running(path, fake.url, **overrides) as foreman,
        opened(browser, foreman.url, fragment) as tab,
    ):
        yield fake, foreman, tab


def region(tab: Tab, name: str) -> Locator:
    """A part of the page by the name that a screen reader says."""
    return tab.page.get_by_role("region", name=name)


def link(place: Any, job_id: str) -> Locator:
    """The link to a job in some part of the page."""
    return place.locator(f'a[href="#/jobs/{job_id}"]')


def state(tab: Tab) -> Locator:
    """The state of the job that the page is about."""
    return tab.page.get_by_test_id("job-state")


def connection(tab: Tab) -> Locator:
    """Whether the page hears from foreman."""
    return tab.page.get_by_test_id("connection")


def button(tab: Tab, name: str) -> Locator:
    """A button by its name."""
    return tab.page.get_by_role("button", name=name, exact=True)


def title(tab: Tab) -> Locator:
    """What the view is called."""
    return tab.page.get_by_role("heading", level=1)


async def path(tab: Tab) -> str:
    """The fragment of the address, as it is now."""
    return str(await tab.evaluate("location.hash"))
