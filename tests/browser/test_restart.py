"""The page and a foreman or a target that goes away and comes back."""

from __future__ import annotations

import httpx
from playwright.async_api import expect

from tests.browser.scene import connection, link, region, scene
from tests.browser.tab import opened
from tests.fakes.ollama import FakeOllama
from tests.kit import Process

#: What Chromium says of requests to a server that has just been killed.
GONE = r"net::ERR_(CONNECTION_\w+|INCOMPLETE_CHUNKED_ENCODING|EMPTY_RESPONSE|SOCKET_NOT_CONNECTED|NETWORK_IO_SUSPENDED)"


async def submit(url: str, model: str, text: str) -> str:
    """Queue a generate job; its id."""
    async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
        answer = await client.post("/jobs", json={"model": model, "prompt": text})
        return str(answer.json()["job_id"])


async def test_after_a_kill_and_a_restart_the_page_picks_up_again_without_a_reload(browser, tmp_path):
    async with FakeOllama(["a", "b"]) as fake:
        foreman = Process(tmp_path, fake.url)
        try:
            url = await foreman.start()
            async with opened(browser, url) as tab:
                tab.expect_fault(GONE)
                with fake.hold("a", after=2) as gate:
                    first = await submit(url, "a", "one two three")
                    await gate.reached()
                    await expect(tab.page.get_by_test_id("live-text")).to_contain_text("one two")
                    await foreman.kill()
                    await expect(connection(tab)).to_have_text("reconnecting", ignore_case=True)
                await foreman.start(extra={"FOREMAN_ADDR": url.removeprefix("http://")})
                await expect(connection(tab)).to_have_text("live", ignore_case=True)
                second = await submit(url, "b", "four")
                for job_id in (first, second):
                    await expect(link(region(tab, "Recent jobs"), job_id)).to_be_visible()
                assert tab.requests.count(tab.url) == 1
        finally:
            await foreman.kill()


async def test_a_job_page_goes_on_with_the_answer_that_a_kill_interrupted(browser, tmp_path):
    async with FakeOllama(["a"]) as fake:
        foreman = Process(tmp_path, fake.url)
        try:
            url = await foreman.start()
            with fake.hold("a", after=2) as gate:
                job_id = await submit(url, "a", "one two three")
                await gate.reached()
                async with opened(browser, url, f"#/jobs/{job_id}") as tab:
                    tab.expect_fault(GONE)
                    await expect(tab.page.get_by_test_id("live-text")).to_have_text("one two")
                    await foreman.kill()
                    gate.release()
                    await foreman.start(extra={"FOREMAN_ADDR": url.removeprefix("http://")})
                    # Said once, although two runs have said it.
                    await expect(tab.page.get_by_test_id("answer")).to_have_text("one two three")
        finally:
            await foreman.kill()


async def test_a_target_that_is_away_is_an_alert_until_it_is_back(browser, tmp_path):
    async with scene(browser, tmp_path, poll_interval="50ms") as (fake, foreman, tab):
        await foreman.until_finished(await foreman.submit("a"))
        await expect(tab.page.get_by_role("alert")).to_have_count(0)
        await fake.go_away()
        await expect(tab.page.get_by_role("alert")).to_be_visible()
        job_id = await foreman.submit("a")
        await expect(region(tab, "Waiting")).to_contain_text("not reachable")
        await fake.come_back()
        await expect(tab.page.get_by_role("alert")).to_have_count(0)
        await expect(link(region(tab, "Recent jobs"), job_id)).to_be_visible()
