"""The tests' own ears: a page in which something goes wrong fails the test that looked at it."""

from __future__ import annotations

from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from tests.browser.accessibility import cut_off, findings
from tests.browser.tab import PHONE, opened

CSP = (
    "default-src 'none'; script-src 'self' 'nonce-good'; style-src 'self'; connect-src *; img-src data:;"
    "require-trusted-types-for 'script'; trusted-types 'none'"
)


@asynccontextmanager
async def page(script: str, more: str = ""):
    """A server whose one page runs a script; its base URL."""
    head = "<!doctype html><html lang=en><title>t</title><link rel=icon href=data:,>"
    text = f"{head}<script nonce=good>{script}</script>{more}"

    async def answer(request: web.Request) -> web.Response:
        if request.path != "/dashboard":
            raise web.HTTPNotFound
        return web.Response(text=text, content_type="text/html", headers={"content-security-policy": CSP})

    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("script", "fault"),
    [
        ("console.error('no')", "console error: no"),
        ("console.warn('well')", "console warning: well"),
        ("setTimeout(() => { throw new Error('thrown') })", "uncaught: .*thrown"),
        ("Promise.reject(new Error('rejected'))", "uncaught: .*rejected"),
        ("fetch('/missing')", "console error: .*404"),
        ("fetch('http://127.0.0.2:9/').catch(() => 0)", "request to another host: http://127.0.0.2:9/"),
        ("alert('script ran')", "dialog of the browser: script ran"),
        ("document.write('<script>1</' + 'script>')", "CSP: require-trusted-types-for"),
        ("document.documentElement.setAttribute('style', 'color: red')", "CSP: style-src"),
        ("window.open('/dashboard#again'); window.open = () => 0", "opened twice"),
    ],
)
async def test_what_goes_wrong_in_a_page_is_a_fault(browser, script, fault):
    again = "if (location.hash) console.error('opened twice'); else " if "again" in script else ""
    with pytest.raises(AssertionError, match=fault):
        async with page(again + script) as url, opened(browser, url) as tab:
            await tab.until(lambda: tab.faults)


async def test_what_a_test_expects_is_no_fault(browser):
    async with page("fetch('/missing')") as url, opened(browser, url) as tab:
        tab.expect_fault("404")
        await tab.until(lambda: len(tab.ended) == 2)
        assert [request.removeprefix(url) for request in tab.requests] == ["/dashboard", "/missing"]


async def test_a_page_without_fault_has_none(browser):
    async with page("console.log('fine')", "<h1>fine</h1>") as url, opened(browser, url) as tab:
        assert await tab.page.inner_text("h1") == "fine"


async def test_what_keeps_people_out_is_found(browser):
    bad = "<img src=data:,><p id=pale>pale</p><div id=wide>w</div><div id=box>clipped</div>"
    script = """addEventListener('load', () => {
      document.getElementById('pale').style.color = '#ddd';
      document.getElementById('wide').style.width = '2000px';
      Object.assign(document.getElementById('box').style, { width: '20px', overflow: 'hidden' });
    })"""
    async with page(script, bad) as url, opened(browser, url, width=PHONE) as tab:
        found = await findings(tab.page)
        assert [line.partition(",")[0] for line in found] == ["serious: color-contrast", "critical: image-alt"]
        assert await cut_off(tab.page) == ["cut off: clipped", "the page scrolls sideways"]


async def test_a_page_that_everybody_can_use_has_no_findings(browser):
    async with page("1", "<main><h1>fine</h1></main>") as url, opened(browser, url, width=PHONE) as tab:
        assert await findings(tab.page) == []
        assert await cut_off(tab.page) == []
