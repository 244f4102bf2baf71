"""Cancel and retry from the page, by mouse and by keyboard."""

from __future__ import annotations

from playwright.async_api import expect

from foreman.fsm.job import State
from tests.browser.scene import button, path, scene, state


async def test_cancel_asks_first_and_can_be_kept_from_with_the_keyboard(browser, tmp_path):
    async with scene(browser, tmp_path) as (fake, foreman, tab):
        with fake.hold("a", after=1) as gate:
            job_id = await foreman.submit("a", "one two")
            await gate.reached()
            await tab.open(f"#/jobs/{job_id}")
            await button(tab, "Cancel job").focus()
            await tab.page.keyboard.press("Enter")
            await expect(tab.page.get_by_role("dialog")).to_be_visible()
            await tab.page.keyboard.press("Escape")
            await expect(tab.page.locator("dialog")).to_have_count(0)
            await expect(button(tab, "Cancel job")).to_be_focused()
            await tab.page.keyboard.press("Enter")
            await button(tab, "Keep it").focus()
            await tab.page.keyboard.press("Enter")
            await expect(tab.page.locator("dialog")).to_have_count(0)
            assert (await foreman.job(job_id)).state is State.WORKING


async def test_cancel_by_keyboard_ends_the_job_and_the_call(browser, tmp_path):
    async with scene(browser, tmp_path) as (fake, foreman, tab):
        with fake.hold("a", after=1) as gate:
            job_id = await foreman.submit("a", "one two")
            await gate.reached()
            await tab.open(f"#/jobs/{job_id}")
            await button(tab, "Cancel job").focus()
            await tab.page.keyboard.press("Space")
            dialog = tab.page.get_by_role("dialog")
            await expect(dialog).to_be_visible()
            # The dialog holds the keyboard: however often it goes on, it stays inside.
            for _ in range(5):
                await tab.page.keyboard.press("Tab")
                inside = "document.querySelector('dialog, [role=dialog]').contains(document.activeElement)"
                assert await tab.evaluate(inside) or await tab.evaluate("document.activeElement === document.body")
            await button(tab, "Cancel this job").focus()
            await tab.page.keyboard.press("Enter")
            await expect(state(tab)).to_have_text("cancelled", ignore_case=True)
            await fake.wait_for(lambda: fake.calls_of(model="a")[0].aborted)
        assert (await foreman.job(job_id)).state is State.CANCELLED
        await expect(button(tab, "Cancel job")).to_have_count(0)


async def test_a_waiting_job_can_be_cancelled(browser, tmp_path):
    async with scene(browser, tmp_path) as (fake, foreman, tab):
        with fake.hold("a") as gate:
            await foreman.submit("a")
            await gate.reached()
            job_id = await foreman.submit("a")
            await tab.open(f"#/jobs/{job_id}")
            await button(tab, "Cancel job").click()
            await button(tab, "Cancel this job").click()
            await expect(state(tab)).to_have_text("cancelled", ignore_case=True)


async def test_retry_makes_a_new_job_and_opens_it(browser, tmp_path):
    async with scene(browser, tmp_path) as (fake, foreman, tab):
        fake.inject("status", status=400, body="not today")
        job_id = await foreman.submit("a", "one two")
        await foreman.until_finished(job_id)
        await tab.open(f"#/jobs/{job_id}")
        await expect(tab.page.get_by_role("main")).to_contain_text("not today")
        await button(tab, "Retry as a new job").click()
        await expect(tab.page.get_by_test_id("answer")).to_have_text("one two")
        new_id = (await path(tab)).removeprefix("#/jobs/")
        assert new_id != job_id
        assert (await foreman.job(new_id)).retry_of == job_id
