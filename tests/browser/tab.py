"""A tab of the browser that hears everything: a test that uses it fails if anything went wrong in the page.

Owns what is recorded and what is a fault. Must not know what the dashboard shows.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Literal
from urllib.parse import urlsplit

from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Dialog, Error, Page, Request, WebError

from tests.fakes.machine import Changes
from tests.kit import PATIENCE_S

#: As wide as a desktop's window and as the narrowest phone in use.
DESKTOP, PHONE = 1280, 360

#: Runs in every document before its own scripts.
_LISTEN = """
addEventListener("securitypolicyviolation", (event) =>
  console.error(`CSP: ${event.violatedDirective} refused ${event.blockedURI} ${event.sample}`));
"""

# A tab is never hidden in a Chromium without a display, so the page is told so.
_SEE = """(state) => {
  Object.defineProperty(document, "visibilityState", { configurable: true, value: state });
  Object.defineProperty(document, "hidden", { configurable: true, value: state === "hidden" });
  document.dispatchEvent(new Event("visibilitychange"));
}"""


class Tab:
    """A page in a context of its own, and what was heard from it and from any page that it opened."""

    def __init__(self, context: BrowserContext, page: Page, url: str) -> None:
        self.page = page
        self.url = f"{url}/dashboard"
        #: Every request of the page, as it was made.
        self.requests: list[str] = []
        #: What came of them: status and URL.
        self.answers: list[tuple[int, str]] = []
        #: Those that are over, whichever way.
        self.ended: list[str] = []
        self._host = urlsplit(url).netloc
        self._faults: list[str] = []
        self._expected: list[str] = []
        self._heard = Changes()
        context.on("console", self._console)
        context.on("weberror", self._error)
        context.on("request", self._request)
        context.on("response", lambda response: self.answers.append((response.status, response.url)))
        context.on("requestfinished", self._finished)
        context.on("requestfailed", self._failed)
        context.on("dialog", self._dialog)

    @property
    def faults(self) -> list[str]:
        """What went wrong in the page and was not expected to."""
        return [fault for fault in self._faults if not any(re.search(each, fault) for each in self._expected)]

    def expect_fault(self, *patterns: str) -> None:
        """From now on a fault that one of these patterns finds is none: the test itself brings it about."""
        self._expected += patterns

    async def open(self, fragment: str = "") -> None:
        """Load the dashboard at a fragment of its address."""
        await self.page.goto(self.url + fragment)

    async def until(self, true: Callable[[], Any]) -> None:
        """Wait until this is true of what was heard."""
        await self._heard.wait_for(true, PATIENCE_S)

    async def evaluate(self, expression: str, argument: Any = None) -> Any:
        """What an expression, or a function of the argument, is in the page."""
        return await self.page.evaluate(expression, argument)

    async def hide(self) -> None:
        """Let another tab cover this one."""
        await self.evaluate(_SEE, "hidden")

    async def show(self) -> None:
        """Come back to it."""
        await self.evaluate(_SEE, "visible")

    def _fault(self, fault: str) -> None:
        self._faults.append(fault)
        self._heard.tell()

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning", "assert"}:
            self._fault(f"console {message.type}: {message.text} ({message.location.get('url', '')})")

    def _error(self, error: WebError) -> None:
        self._fault(f"uncaught: {error.error}")

    def _request(self, request: Request) -> None:
        self.requests.append(request.url)
        self._heard.tell()
        place = urlsplit(request.url)
        if place.scheme not in {"data", "blob"} and place.netloc != self._host:
            self._fault(f"request to another host: {request.url}")

    def _finished(self, request: Request) -> None:
        self.ended.append(request.url)
        self._heard.tell()

    def _failed(self, request: Request) -> None:
        self._finished(request)
        # What the page itself breaks off is no failure: a stream that nobody looks at any more.
        if request.failure != "net::ERR_ABORTED":
            self._fault(f"request failed: {request.failure} ({request.url})")

    async def _dialog(self, dialog: Dialog) -> None:
        self._fault(f"dialog of the browser: {dialog.message}")
        await dialog.dismiss()


@asynccontextmanager
async def opened(
    browser: Browser,
    url: str,
    fragment: str = "",
    *,
    width: int = DESKTOP,
    scheme: Literal["light", "dark"] = "light",
) -> AsyncIterator[Tab]:
    """The dashboard of the foreman at `url` in a new tab; at the end of the block nothing may have gone wrong in it."""
    context = await browser.new_context(
        viewport={"width": width, "height": 800},
        color_scheme=scheme,
        # A test waits for what is there, not for how it came.
        reduced_motion="reduce",
        locale="en-GB",
        timezone_id="UTC",
    )
    context.set_default_timeout(PATIENCE_S * 1000)
    await context.add_init_script(_LISTEN)
    tab = Tab(context, await context.new_page(), url)
    try:
        await tab.open(fragment)
        yield tab
        if tab.faults:
            raise AssertionError("\n".join(tab.faults))
    except (AssertionError, TimeoutError, Error) as error:
        error.add_note("\n".join([tab.page.url, *tab.faults, (await tab.page.inner_text("body"))[:4000]]))
        raise
    finally:
        await context.close()
