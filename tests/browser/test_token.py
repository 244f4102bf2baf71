"""With a token set the page is closed without it, and the token is kept to itself."""

from __future__ import annotations

from playwright.async_api import expect

from tests.browser.scene import button, link, region, scene
from tests.browser.tab import Tab, opened

TOKEN = "s3cret-t0ken"
SENTENCE = "nobody may read this"


def told(tab: Tab) -> list[str]:
    """The paths that were answered with data."""
    paths = [url.removeprefix(tab.url.removesuffix("/dashboard")) for status, url in tab.answers if status < 400]
    return [path for path in paths if not path.startswith("/dashboard") and path != "/healthz"]


async def test_without_the_token_nothing_is_shown_and_with_it_everything(browser, tmp_path):
    async with scene(browser, tmp_path, token=TOKEN) as (_, foreman, tab):
        tab.expect_fault("401")
        foreman.client.headers["authorization"] = f"Bearer {TOKEN}"
        job_id = await foreman.submit("a", SENTENCE)
        await foreman.until_finished(job_id)
        field = tab.page.get_by_label("Token", exact=True)
        for fragment in ("", "#/jobs", f"#/jobs/{job_id}", "#/models", "#/webhooks"):
            await tab.open(fragment)
            await tab.page.reload()
            await expect(field).to_be_visible()
            assert SENTENCE not in await tab.page.content()
            assert told(tab) == []
        await field.fill("wrong")
        await button(tab, "Open").click()
        await expect(tab.page.get_by_text("wrong")).to_be_visible()
        await expect(field).to_be_visible()
        assert told(tab) == []
        await tab.open(f"#/jobs/{job_id}")
        await field.fill(TOKEN)
        await field.press("Enter")
        await expect(tab.page.get_by_test_id("prompt")).to_contain_text(SENTENCE)
        await expect(field).to_have_count(0)


async def test_the_token_survives_a_reload_and_is_in_no_url(browser, tmp_path):
    async with scene(browser, tmp_path, token=TOKEN) as (_, foreman, tab):
        tab.expect_fault("401")
        foreman.client.headers["authorization"] = f"Bearer {TOKEN}"
        await tab.page.get_by_label("Token", exact=True).fill(TOKEN)
        await button(tab, "Open").click()
        job_id = await foreman.submit("a", SENTENCE)
        await link(region(tab, "Recent jobs"), job_id).first.click()
        await tab.page.reload()
        await expect(tab.page.get_by_test_id("prompt")).to_contain_text(SENTENCE)
        assert [url for url in [*tab.requests, tab.page.url] if TOKEN in url] == []
        assert await tab.page.context.cookies() == []


async def test_a_forgotten_token_closes_the_page_and_is_stored_nowhere(browser, tmp_path):
    async with scene(browser, tmp_path, token=TOKEN) as (_, foreman, tab):
        tab.expect_fault("401")
        foreman.client.headers["authorization"] = f"Bearer {TOKEN}"
        await tab.page.get_by_label("Token", exact=True).fill(TOKEN)
        await button(tab, "Open").click()
        job_id = await foreman.submit("a", SENTENCE)
        await foreman.until_finished(job_id)
        await tab.open(f"#/jobs/{job_id}")
        await expect(tab.page.get_by_test_id("prompt")).to_contain_text(SENTENCE)
        await button(tab, "Forget token").click()
        await expect(tab.page.get_by_label("Token", exact=True)).to_be_visible()
        assert SENTENCE not in await tab.page.content()
        assert TOKEN not in await tab.page.content()
        stored = "JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])"
        assert TOKEN not in await tab.evaluate(stored)
        await tab.page.reload()
        await expect(tab.page.get_by_label("Token", exact=True)).to_be_visible()
        assert SENTENCE not in await tab.page.content()


async def test_a_token_that_is_not_to_be_kept_is_asked_for_in_a_new_tab(browser, tmp_path):
    async with scene(browser, tmp_path, token=TOKEN) as (_, foreman, tab):
        tab.expect_fault("401")
        await tab.page.get_by_label("Token", exact=True).fill(TOKEN)
        await button(tab, "Open").click()
        await expect(region(tab, "Running")).to_be_visible()
        async with opened(browser, foreman.url) as other:
            other.expect_fault("401")
            await expect(other.page.get_by_label("Token", exact=True)).to_be_visible()


async def test_without_a_token_set_nobody_is_asked_for_one(browser, tmp_path):
    async with scene(browser, tmp_path) as (_, _, tab):
        await expect(region(tab, "Running")).to_be_visible()
        await expect(tab.page.get_by_label("Token", exact=True)).to_have_count(0)
        await expect(button(tab, "Forget token")).to_have_count(0)
