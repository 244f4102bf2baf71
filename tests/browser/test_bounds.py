"""What the page takes of a browser and of foreman is bounded: however many jobs, and when nobody looks."""

from __future__ import annotations

import json

from playwright.async_api import expect

from tests.browser.scene import connection, link, region, scene
from tests.browser.tab import PHONE, Tab, opened

BATCHES, SIZE = 10, 1_000
NDJSON = {"content-type": "application/x-ndjson"}
MOST_NODES, MOST_QUESTIONS = 2_500, 15


def questions(tab: Tab) -> list[str]:
    """The requests but for the page's own files."""
    return [url for url in tab.requests if "/dashboard" not in url]


async def nodes(tab: Tab) -> int:
    return int(await tab.evaluate("document.querySelectorAll('*').length"))


async def test_ten_thousand_waiting_jobs_are_a_page_like_any_other(browser, tmp_path):
    async with scene(browser, tmp_path, max_queue="20000") as (fake, foreman, _):
        with fake.hold(after=0) as gate:
            await foreman.submit("a", "first")
            await gate.reached()
            batch = "\n".join(json.dumps({"model": "ab"[i % 2], "prompt": "p"}) for i in range(SIZE))
            for _ in range(BATCHES):
                answer = await foreman.client.post("/jobs", content=batch, headers=NDJSON)
                assert answer.status_code == 202
            async with opened(browser, foreman.url) as tab:
                await expect(region(tab, "Waiting")).to_contain_text("5,000")
                assert await nodes(tab) <= MOST_NODES
                assert len(questions(tab)) <= MOST_QUESTIONS
                last = answer.json()["jobs"][-1]["job_id"]
                await tab.open("#/jobs")
                await link(tab.page.get_by_role("main"), last).first.click()
                await expect(tab.page.get_by_test_id("job-state")).to_have_text("queued", ignore_case=True)
                assert await nodes(tab) <= MOST_NODES
                assert len(questions(tab)) <= 2 * MOST_QUESTIONS


async def test_a_tab_that_nobody_looks_at_asks_for_nothing(browser, tmp_path):
    async with scene(browser, tmp_path) as (_, foreman, tab):
        feed = f"{foreman.url}/events"
        await expect(connection(tab)).to_have_text("live", ignore_case=True)
        assert feed not in tab.ended
        await tab.hide()
        await tab.until(lambda: feed in tab.ended)
        before = len(tab.requests)
        job_id = await foreman.submit("a")
        await foreman.until_finished(job_id)
        assert len(tab.requests) == before
        await tab.show()
        await expect(link(region(tab, "Recent jobs"), job_id)).to_be_visible()
        await expect(connection(tab)).to_have_text("live", ignore_case=True)


async def test_a_page_keeps_its_length_while_it_is_scrolled(browser, tmp_path):
    async with scene(browser, tmp_path) as (_, foreman, _):
        text = "An answer that fills a phone, and is not seen beside the prompt. " * 15
        job_id = await foreman.submit("a", text)
        await foreman.until_finished(job_id)
        async with opened(browser, foreman.url, f"#/jobs/{job_id}", width=PHONE) as tab:
            await expect(tab.page.get_by_test_id("answer")).to_have_text(text)
            await expect(tab.page.get_by_test_id("prompt")).to_contain_text(text)
            assert len(set(await tab.evaluate(_LENGTHS))) == 1


#: The page's length, as it is and after each step on the way to its end.
_LENGTHS = """async () => {
  const length = () => document.documentElement.scrollHeight;
  const painted = () => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
  const lengths = [length()];
  for (let at = 0; at < length(); at += innerHeight / 2) {
    scrollTo(0, at);
    await painted();
    lengths.push(length());
  }
  return lengths;
}"""


async def test_the_policy_of_the_page_lets_nothing_in_but_its_own_files(browser, tmp_path):
    async with scene(browser, tmp_path) as (_, foreman, tab):
        answer = await foreman.client.get("/dashboard")
        policy = dict(part.strip().partition(" ")[::2] for part in answer.headers["content-security-policy"].split(";"))
        assert policy["default-src"] == "'none'"
        assert {policy[name] for name in ("script-src", "style-src", "img-src", "connect-src")} == {"'self'"}
        assert {policy[name] for name in ("base-uri", "form-action", "frame-ancestors")} == {"'none'"}
        await expect(region(tab, "Running")).to_be_visible()
        # It is in force: the same page cannot be made to load or to run what is not its own.
        tab.expect_fault("CSP: ", "Content Security Policy", "TrustedHTML", "requires '")
        assert await tab.evaluate("fetch('http://127.0.0.2:9/').then(() => 'sent', () => 'refused')") == "refused"
        assert await tab.evaluate("(() => { try { document.body.innerHTML = '<b>' } catch { return 'refused' } })()")
