"""What happens is on the page as it happens, without a reload."""

from __future__ import annotations

import re

from playwright.async_api import expect

from tests.browser.scene import connection, link, region, scene, state


async def test_a_job_appears_streams_and_shows_its_answer_without_a_reload(browser, tmp_path):
    async with scene(browser, tmp_path) as (fake, foreman, tab):
        await expect(connection(tab)).to_have_text("live", ignore_case=True)
        loads = tab.requests.count(tab.url)
        with fake.hold("a", after=2) as gate:
            job_id = await foreman.submit("a", "one two three four")
            await expect(link(region(tab, "Running"), job_id)).to_be_visible()
            await gate.reached()
            await expect(tab.page.get_by_test_id("live-text")).to_contain_text("one two")
            await expect(tab.page.get_by_test_id("live-text")).not_to_contain_text("three")
            second = await foreman.submit("a", "later")
            await expect(link(region(tab, "Waiting"), second)).to_be_visible()
        await expect(link(region(tab, "Recent jobs"), job_id)).to_be_visible()
        await expect(link(region(tab, "Running"), job_id)).to_have_count(0)
        await link(region(tab, "Recent jobs"), job_id).first.click()
        await expect(tab.page.get_by_test_id("answer")).to_have_text("one two three four")
        await expect(tab.page.get_by_test_id("prompt")).to_contain_text("one two three four")
        assert tab.requests.count(tab.url) == loads == 1


async def test_a_job_page_follows_the_job_through_its_states(browser, tmp_path):
    async with scene(browser, tmp_path) as (fake, foreman, tab):
        with fake.hold("a", at="load") as loading, fake.hold("a", after=1) as answering:
            job_id = await foreman.submit("a", "one two")
            await tab.open(f"#/jobs/{job_id}")
            await expect(state(tab)).to_have_text("loading", ignore_case=True)
            loading.release()
            await answering.reached()
            await expect(state(tab)).to_have_text("working", ignore_case=True)
            await expect(tab.page.get_by_test_id("live-text")).to_have_text("one")
        await expect(state(tab)).to_have_text("done", ignore_case=True)
        await expect(tab.page.get_by_test_id("answer")).to_have_text("one two")
        for happened in await foreman.types(job_id):
            await expect(tab.page.get_by_role("main")).to_contain_text(happened.removeprefix("job."))


async def test_the_queue_is_shown_by_model_in_the_order_it_will_run_with_eta_and_reason(browser, tmp_path):
    async with scene(browser, tmp_path) as (fake, foreman, tab):
        # So that there is something to reckon ETAs from.
        await foreman.until_finished(await foreman.submit("a"), await foreman.submit("b"))
        with fake.hold(after=0) as gate:
            running_id = await foreman.submit("a")
            await gate.reached()
            for model in ("b", "a", "b", "a"):
                await foreman.submit(model)
            shown = (await foreman.client.get("/queue")).json()["waiting"]
            order = [job["job_id"] for line in shown for job in line["jobs"]]
            assert len(order) == 4
            waiting = region(tab, "Waiting")
            for job_id in order:
                await expect(link(waiting, job_id)).to_be_visible()
            await expect(link(waiting, running_id)).to_have_count(0)
            hrefs = await waiting.locator('a[href^="#/jobs/"]').evaluate_all("all => all.map(a => a.hash.slice(7))")
            assert list(dict.fromkeys(hrefs)) == order
            for line in shown:
                await expect(waiting.get_by_role("heading", name=re.compile(line["model"])).first).to_be_visible()
                for job in line["jobs"]:
                    # The ETA within the sentence moves on with the clock.
                    await expect(waiting).to_contain_text(job["reason"].partition(", ")[0])


async def test_what_happened_before_the_page_was_opened_is_on_it(browser, tmp_path):
    async with scene(browser, tmp_path) as (_, foreman, tab):
        job_id = await foreman.submit("a")
        await foreman.until_finished(job_id)
        await tab.page.reload()
        await expect(link(region(tab, "Recent jobs"), job_id)).to_be_visible()


async def test_the_models_say_what_is_resident_and_the_swaps(browser, tmp_path):
    async with scene(browser, tmp_path, "#/models") as (_, foreman, tab):
        await foreman.until_finished(await foreman.submit("a"), await foreman.submit("b"))
        await expect(tab.page.get_by_role("main")).to_contain_text("b:latest")
