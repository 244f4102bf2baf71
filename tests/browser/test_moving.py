"""Getting about: addresses, the back button, the keyboard alone, and where the focus is."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import expect

from tests.browser.scene import link, path, region, scene, state, title
from tests.browser.tab import Tab, opened

VIEWS = {"Jobs": "#/jobs", "Models": "#/models", "Webhooks": "#/webhooks"}


async def focused(tab: Tab) -> str:
    """What has the focus, in the words of a screen reader as far as they are its own."""
    return str(await tab.evaluate("(document.activeElement.ariaLabel ?? document.activeElement.textContent).trim()"))


async def test_a_job_can_be_linked_to(browser, tmp_path):
    async with scene(browser, tmp_path) as (_, foreman, _):
        job_id = await foreman.submit("a", "one two")
        await foreman.until_finished(job_id)
        async with opened(browser, foreman.url, f"#/jobs/{job_id}") as tab:
            await expect(state(tab)).to_have_text("done", ignore_case=True)
            await expect(tab.page.get_by_test_id("answer")).to_have_text("one two")
            await expect(tab.page).to_have_title(re.compile(re.escape(job_id[-4:])))


async def test_back_and_forward_go_through_the_views(browser, tmp_path):
    async with scene(browser, tmp_path) as (_, foreman, tab):
        job_id = await foreman.submit("a")
        first = await title(tab).inner_text()
        await link(region(tab, "Recent jobs"), job_id).first.click()
        await expect(state(tab)).to_have_text("done", ignore_case=True)
        await tab.page.go_back()
        await expect(title(tab)).to_have_text(first)
        await expect(link(region(tab, "Recent jobs"), job_id)).to_be_visible()
        await tab.page.go_forward()
        await expect(state(tab)).to_have_text("done", ignore_case=True)


@pytest.mark.parametrize("job_id", ["01ARZ3NDEKTSV4RRFFQ69G5FAV", "%3Cimg%20src=x%3E", "%ZZ"])
async def test_an_unknown_job_is_said_to_be_unknown(browser, tmp_path, job_id):
    async with scene(browser, tmp_path, f"#/jobs/{job_id}") as (_, _, tab):
        tab.expect_fault("404", "400")
        await expect(tab.page.get_by_role("main")).to_contain_text(re.compile("no such|no job|is unknown"))
        await expect(title(tab)).to_be_visible()


async def test_an_unknown_view_is_said_to_be_unknown(browser, tmp_path):
    async with scene(browser, tmp_path, "#/nowhere/b?c#d") as (_, _, tab):
        await expect(title(tab)).to_be_visible()
        await expect(tab.page.get_by_role("navigation").first).to_be_visible()


async def test_the_views_are_reached_with_the_keyboard_and_take_the_focus(browser, tmp_path):
    async with scene(browser, tmp_path) as (_, _, tab):
        await expect(region(tab, "Running")).to_be_visible()
        titles = set()
        for name, fragment in VIEWS.items():
            await tab.page.get_by_role("navigation").get_by_role("link", name=name).focus()
            await tab.page.keyboard.press("Enter")
            await expect(tab.page.get_by_role("navigation").get_by_role("link", name=name)).to_have_attribute(
                "aria-current", "page"
            )
            assert await path(tab) == fragment
            await expect(tab.page.locator("main:focus, main :focus")).to_have_count(1)
            await expect(title(tab)).to_have_text(re.compile(name, re.IGNORECASE))
            titles.add(await tab.page.title())
        assert len(titles) == len(VIEWS)


async def test_the_skip_link_comes_first_and_leads_past_the_navigation(browser, tmp_path):
    async with scene(browser, tmp_path) as (_, _, tab):
        await expect(region(tab, "Running")).to_be_visible()
        await tab.page.keyboard.press("Tab")
        assert re.search("skip", await focused(tab), re.IGNORECASE)
        await expect(tab.page.locator(":focus")).to_be_in_viewport()
        before = await path(tab)
        await tab.page.keyboard.press("Enter")
        await expect(tab.page.locator("main:focus, main :focus")).to_have_count(1)
        assert await path(tab) == before  # the views' addresses are fragments too: skipping is no change of view


async def test_the_keyboard_goes_through_the_page_in_reading_order_and_is_seen(browser, tmp_path):
    async with scene(browser, tmp_path) as (_, foreman, tab):
        job_id = await foreman.submit("a")
        await expect(link(region(tab, "Recent jobs"), job_id)).to_be_visible()
        reached, places = [], []
        for _ in range(60):
            await tab.page.keyboard.press("Tab")
            if await tab.evaluate("document.activeElement === document.body"):
                break
            reached.append(await focused(tab))
            places.append(await tab.evaluate(_PLACE))
            assert await tab.evaluate(_SEEN), f"nothing shows that {reached[-1]!r} has the focus"
        assert [name for name in reached if name in VIEWS] == list(VIEWS)
        assert places == sorted(places), "the focus jumps back in the document"
        hrefs = "all => all.map(a => a.hash)"
        assert f"#/jobs/{job_id}" in await tab.page.locator("main a").evaluate_all(hrefs)


#: Where in the document the focus is.
_PLACE = "[...document.querySelectorAll('*')].indexOf(document.activeElement)"
#: Whether the focus can be seen: an outline or a ring.
_SEEN = """(() => {
  const { outlineStyle, outlineWidth, boxShadow } = getComputedStyle(document.activeElement);
  return (outlineStyle !== "none" && parseFloat(outlineWidth) >= 1) || boxShadow !== "none";
})()"""


async def test_landmarks_are_one_of_each(browser, tmp_path):
    async with scene(browser, tmp_path) as (_, _, tab):
        for role in ("banner", "main", "navigation"):
            await expect(tab.page.get_by_role(role)).to_have_count(1)
        for name in ("Running", "Waiting", "Recent jobs", "Target", "Throughput"):
            await expect(region(tab, name)).to_have_count(1)
        await expect(title(tab)).to_have_count(1)
