"""Whatever callers, models and receivers write is text on the page, and nothing of it runs."""

from __future__ import annotations

import pytest
from playwright.async_api import expect

from tests.browser.accessibility import cut_off
from tests.browser.scene import link, region, scene
from tests.browser.tab import PHONE, opened
from tests.fakes.receiver import Receiver, answer

# If one of these runs or is loaded the tab hears of it: a dialog, a request, a refusal by the page's policy.
IMAGE = "<img src=x onerror=alert(1)>"
TEXTS = {
    "markup": f"{IMAGE} </script><script>alert(2)</script> </textarea></pre></body><svg onload=alert(3)> "
    "<base href=//127.0.0.2/><meta http-equiv=refresh content=0> <iframe src=//127.0.0.2/ srcdoc=x> "
    "[x](javascript:alert(4)) <a href=javascript:alert(5)>x</a> <style>*{display:none}</style>",
    "escapes": "{{7*7}} ${alert(6)} &lt;b&gt; &#60;i&#62; %3Cb%3E \\u003cb\\u003e \x00 \x1b[31m",
    "right-to-left": "\u202eabc\u2066 \u200f\u05d0\u05d1 \u2067zyx\u202c <b>",
    "long": "<b>" + "w" * 200_000,
}


@pytest.mark.parametrize("name", TEXTS)
async def test_a_prompt_and_an_answer_are_text(browser, tmp_path, name):
    text = TEXTS[name]
    async with scene(browser, tmp_path) as (fake, foreman, tab):
        with fake.hold("a", after=len(text.split())) as gate:
            job_id = await foreman.submit("a", f"{text} end")
            await gate.reached()
            await expect(tab.page.get_by_test_id("live-text")).to_contain_text(text[-1000:])
        await link(region(tab, "Recent jobs"), job_id).first.click()
        await expect(tab.page.get_by_test_id("answer")).to_have_text(f"{text} end")
        await expect(tab.page.get_by_test_id("prompt")).to_contain_text(f"{text} end")


async def test_a_long_line_makes_no_phone_scroll_sideways(browser, tmp_path):
    async with scene(browser, tmp_path) as (_, foreman, _):
        job_id = await foreman.submit("a", TEXTS["long"])
        await foreman.until_finished(job_id)
        async with opened(browser, foreman.url, f"#/jobs/{job_id}", width=PHONE) as tab:
            await expect(tab.page.get_by_test_id("answer")).to_have_text(TEXTS["long"])
            assert await cut_off(tab.page) == []


async def test_an_error_message_is_text(browser, tmp_path):
    async with scene(browser, tmp_path) as (fake, foreman, tab):
        fake.inject("status", status=400, body=TEXTS["markup"])
        job_id = await foreman.submit("a")
        await foreman.until_finished(job_id)
        await link(region(tab, "Recent jobs"), job_id).first.click()
        await expect(tab.page.get_by_role("main")).to_contain_text(TEXTS["markup"])


async def test_a_model_s_name_is_text(browser, tmp_path):
    async with scene(browser, tmp_path, "#/models", poll_interval="50ms") as (fake, _, tab):
        fake.store.models()[0].name = IMAGE  # no name that Ollama would take: this one lies
        await expect(tab.page.get_by_role("main")).to_contain_text(IMAGE)


async def test_a_webhook_s_address_and_its_receiver_s_reply_are_text(browser, tmp_path):
    async with Receiver() as receiver, scene(browser, tmp_path) as (_, foreman, tab):
        receiver.default = answer(500, IMAGE.encode())
        address = f'{receiver.url}"><svg/onload=alert(7)>'
        job_id = await foreman.submit("a", state_webhook_url=address)
        await foreman.until_finished(job_id)
        await receiver.wait_for(1)
        await tab.open(f"#/jobs/{job_id}")
        await expect(tab.page.get_by_role("main")).to_contain_text(IMAGE)
        await expect(tab.page.get_by_role("main")).to_contain_text("onload=alert(7)")
        await tab.open("#/webhooks")
        await expect(tab.page.get_by_role("main")).to_contain_text("127.0.0.1")
