"""What once went wrong in a page that is open for long, that shares a browser, or whose server or reader is odd."""

from __future__ import annotations

import json
import re

import pytest
from playwright.async_api import Page, Route, expect

from tests.browser.scene import button, connection, link, path, region, scene, state, title
from tests.browser.tab import PHONE, opened

NDJSON = {"content-type": "application/x-ndjson"}
TOKEN = "s3cret-t0ken"
FAULTY = {"status": 500, "json": {"error": "out of order", "code": "internal"}}


async def another_window(page: Page) -> Page:
    """A second one of the same browser, with the same address."""
    other = await page.context.new_page()
    await other.goto(page.url)
    return other


@pytest.mark.parametrize("fragment", ["#/jobs/..", "#/jobs/%2e%2e", "#/jobs/."])
async def test_an_address_of_dots_asks_nothing_of_another_route(browser, tmp_path, fragment):
    async with scene(browser, tmp_path, fragment) as (_, foreman, tab):
        await expect(title(tab)).to_have_text("Jobs")
        await expect(region(tab, "All jobs")).to_contain_text("There is no job yet")
        assert f"{foreman.url}/" not in tab.requests
        assert f"{foreman.url}/deliveries" not in tab.requests


async def test_a_page_that_there_is_not_is_called_so(browser, tmp_path):
    async with scene(browser, tmp_path, "#/constructor") as (_, _, tab):
        await expect(tab.page).to_have_title("Not found · foreman")


async def test_two_windows_side_by_side_stay_current(browser, tmp_path):
    async with scene(browser, tmp_path, parallel="2") as (fake, foreman, tab):
        with fake.hold("a", after=1) as gate:
            for _ in range(2):
                await foreman.submit("a", "one two")  # the target answers one at a time
            await gate.reached()
            first, second = (tab.page.get_by_test_id("live-text").nth(index) for index in range(2))
            await expect(first).to_have_text("one")
            await expect(second).to_have_attribute("data-waiting", re.compile("No word yet"))
            other = await another_window(tab.page)
            await expect(second).to_have_attribute("data-waiting", re.compile("2 windows"))
            waiting = await foreman.submit("a")
            for page in (tab.page, other):
                await expect(link(page.get_by_role("region", name="Waiting"), waiting)).to_be_visible()
                await expect(page.get_by_test_id("live-text").first).to_have_text("one")
            await other.close(run_before_unload=True)
            await expect(second).to_have_attribute("data-waiting", re.compile("No word yet"))


async def test_a_list_does_not_grow_by_what_comes_while_it_is_open(browser, tmp_path):
    async with scene(browser, tmp_path, "#/jobs", max_queue="1000") as (fake, foreman, tab):
        rows = region(tab, "All jobs").locator("tbody tr")
        with fake.hold("a", after=0):
            await queued(foreman, 120)
            await expect(rows).to_have_count(50)
            await button(tab, "Load more").focus()
            await tab.page.keyboard.press("Enter")
            await expect(rows).to_have_count(100)
            await expect(button(tab, "Load more")).to_be_focused()
            for _ in range(3):
                (last,) = await queued(foreman, 1)
                await expect(link(rows.first, last)).to_be_visible()
            await expect(rows).to_have_count(100)


async def test_a_list_that_is_made_longer_is_all_of_one_time(browser, tmp_path):
    async with scene(browser, tmp_path, "#/jobs", max_queue="1000") as (fake, foreman, tab):
        with fake.hold("a", after=0):
            ids = await queued(foreman, 70)
            await button(tab, "Load more").click()
            waiting = region(tab, "All jobs").locator("tr", has=link(tab.page, ids[1]))
            await expect(waiting).to_contain_text("queued")
            await foreman.client.delete(f"/jobs/{ids[1]}")
            await expect(waiting).to_contain_text("cancelled")


async def queued(foreman, count: int) -> list[str]:
    batch = "\n".join(json.dumps({"model": "a", "prompt": "p"}) for _ in range(count))
    jobs = (await foreman.client.post("/jobs", content=batch, headers=NDJSON)).json()["jobs"]
    return [job["job_id"] for job in jobs]


async def test_a_question_that_fails_says_so_and_takes_nothing_else_with_it(browser, tmp_path):
    async with scene(browser, tmp_path) as (_, foreman, tab):
        tab.expect_fault("500")
        await expect(region(tab, "Recent jobs")).to_contain_text("No job is over yet")

        async def refuse(route: Route) -> None:
            await route.fulfill(**FAULTY)

        await tab.page.route("**/jobs?*", refuse)
        await foreman.until_finished(await foreman.submit("a"))
        await expect(region(tab, "Recent jobs")).to_contain_text("This is as it was: out of order.")
        await expect(region(tab, "Target").get_by_text("a", exact=True)).to_be_visible()
        await expect(region(tab, "Running")).not_to_contain_text("as it was")
        await tab.page.unroute("**/jobs?*")
        # Nothing happens that would tell of it: the page asks again by itself.
        await expect(region(tab, "Recent jobs").get_by_role("link").last).to_be_visible()
        await expect(region(tab, "Recent jobs")).not_to_contain_text("as it was")


async def test_a_computer_that_slept_has_its_page_connect_anew(browser, tmp_path):
    async with scene(browser, tmp_path) as (_, foreman, tab):
        feed = f"{foreman.url}/events"
        await expect(connection(tab)).to_have_text("live")
        assert feed not in tab.ended
        await tab.evaluate("(() => { const now = Date.now; Date.now = () => now() + 3_600_000 })()")
        await tab.until(lambda: feed in tab.ended and tab.requests.count(feed) == 2)
        await expect(connection(tab)).to_have_text("live")


async def test_a_browser_whose_clock_is_wrong_tells_the_right_times(browser, tmp_path):
    async with scene(browser, tmp_path) as (_, foreman, tab):
        await foreman.until_finished(await foreman.submit("a"))
        await tab.page.add_init_script("{ const now = Date.now; Date.now = () => now() + 7_200_000 }")
        await tab.page.reload()
        await expect(region(tab, "Recent jobs").locator("time").first).to_be_visible()
        times = await tab.page.locator("time").all_inner_texts()
        assert [words for words in times if "hr" in words or "in " in words] == []


async def test_the_token_is_given_and_forgotten_in_all_windows_together(browser, tmp_path):
    async with scene(browser, tmp_path, token=TOKEN) as (_, _, tab):
        tab.expect_fault("401")
        field = tab.page.get_by_label("Token", exact=True)
        other = await another_window(tab.page)
        await field.fill(TOKEN)
        await tab.page.get_by_label("Remember").check()
        await button(tab, "Open").click()
        await expect(other.get_by_role("region", name="Running")).to_be_visible()
        await button(tab, "Forget token").click()
        await expect(other.get_by_label("Token", exact=True)).to_be_visible()
        assert TOKEN not in await other.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}])")


@pytest.mark.parametrize(
    "data", [{"message": {"tool_calls": "x", "content": {"a": 1}}}, {"message": {"tool_calls": [None]}}, 5]
)
async def test_an_answer_of_no_known_shape_is_shown_as_far_as_it_goes(browser, tmp_path, data):
    async with scene(browser, tmp_path) as (_, foreman, tab):
        job_id = await foreman.submit("a")
        await foreman.until_finished(job_id)
        job = (await foreman.client.get(f"/jobs/{job_id}")).json()
        shown = {**job, "artifacts": [{**each, "data": data} for each in job["artifacts"]]}
        await tab.page.route(f"**/jobs/{job_id}", lambda route: route.fulfill(json=shown))
        await tab.open(f"#/jobs/{job_id}")
        await expect(state(tab)).to_have_text("done")
        await expect(tab.page.get_by_test_id("answer")).to_be_attached()
        await expect(region(tab, "Timeline")).to_contain_text("job.done")


async def test_an_error_of_the_page_s_own_leaves_the_other_views(browser, tmp_path):
    async with scene(browser, tmp_path) as (_, foreman, tab):
        tab.expect_fault("TypeError")
        job_id = await foreman.submit("a")
        await foreman.until_finished(job_id)
        job = (await foreman.client.get(f"/jobs/{job_id}")).json()
        await tab.page.route(f"**/jobs/{job_id}", lambda route: route.fulfill(json={**job, "artifacts": None}))
        await tab.open(f"#/jobs/{job_id}")
        await expect(title(tab)).to_have_text("This page met an error of its own")
        await tab.page.get_by_role("navigation").get_by_role("link", name="Models").click()
        await expect(region(tab, "Swaps")).to_be_visible()
        assert await path(tab) == "#/models"


@pytest.mark.parametrize("name", ["request", "completion"])
async def test_data_that_is_opened_as_a_page_runs_nothing_and_is_in_no_frame(browser, tmp_path, name):
    async with scene(browser, tmp_path) as (fake, foreman, tab):
        await foreman.until_finished(job_id := await foreman.submit("a", "<script>alert(1)</script>"))
        address = f"{foreman.url}/jobs/{job_id}/artifacts/{name}"
        tab.expect_fault(
            "frame-ancestors", "ERR_BLOCKED_BY_RESPONSE", "ERR_ABORTED", "favicon", f"another host: {fake.url}"
        )
        await tab.page.goto(fake.url)
        await tab.evaluate(_FRAME, address)
        assert "alert" not in await tab.page.frames[1].content()
        await tab.page.goto(address)  # a dialog is a fault of the tab
        assert "<script>alert(1)</script>" in await tab.page.inner_text("body")
        assert await tab.page.locator("script").count() == 0


_FRAME = """(address) => new Promise((loaded) => {
  const frame = document.createElement("iframe");
  frame.onload = loaded;
  frame.src = address;
  document.body.append(frame);
}).then(() => {})"""


async def test_colours_of_the_reader_s_own_still_tell_the_view_and_the_window_chosen(browser, tmp_path):
    async with scene(browser, tmp_path) as (_, _, tab):
        await tab.page.emulate_media(forced_colors="active")
        for chosen in ("nav [aria-current]", ".choice [aria-pressed=true]"):
            await expect(tab.page.locator(chosen)).to_have_css("outline-style", "solid")


async def test_a_page_enlarged_on_a_small_window_is_not_covered_by_its_top(browser, tmp_path):
    async with scene(browser, tmp_path) as (_, foreman, _), opened(browser, foreman.url, width=PHONE) as tab:
        await tab.page.set_viewport_size({"width": 320, "height": 256})
        await expect(region(tab, "Recent jobs")).to_be_visible()
        await region(tab, "Recent jobs").scroll_into_view_if_needed()
        await expect(tab.page.get_by_role("banner")).not_to_be_in_viewport()
