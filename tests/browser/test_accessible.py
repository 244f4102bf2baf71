"""Every view, light and dark, wide and narrow: nothing that axe-core calls grave, and nothing that scrolls sideways."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from playwright.async_api import expect

from tests.browser.accessibility import cut_off, findings
from tests.browser.scene import region, state
from tests.browser.tab import DESKTOP, PHONE, Tab, opened
from tests.fakes.ollama import FakeOllama
from tests.fakes.receiver import Receiver, answer
from tests.kit import Running, running

looks = pytest.mark.parametrize(("scheme", "width"), [(s, w) for s in ("light", "dark") for w in (DESKTOP, PHONE)])


@dataclass
class Busy:
    """A foreman with jobs in every state, and their ids."""

    foreman: Running
    done: str
    failed: str
    cancelled: str
    working: str
    waiting: str


@asynccontextmanager
async def busy(path) -> AsyncIterator[Busy]:
    """Jobs of every state, two models that wait, and a receiver that takes nothing."""
    models = [
        "llama3.2",
        "qwen3:8b",
        "hf.co/someone-with-a-long-name/A-Model-With-A-Very-Long-Name-Instruct-GGUF:Q4_K_M",
    ]
    async with (
        FakeOllama(models) as fake,
        Receiver() as receiver,
        running(path, fake.url) as foreman,
    ):
        receiver.default = answer(503, b"not now")
        done = await foreman.submit(models[0], "Say one two three.", state_webhook_url=receiver.url)
        await foreman.until_finished(done)
        fake.inject("status", status=400, body="invalid option: temperature must be a number")
        failed = await foreman.submit(models[0], "Fail.")
        await foreman.until_finished(failed)
        with fake.hold(after=2) as gate:
            working = await foreman.submit(models[0], "A story of many words. " * 20)
            cancelled = await foreman.submit(models[0], "Never mind.")
            await foreman.client.delete(f"/jobs/{cancelled}")
            await gate.reached()
            waiting = [await foreman.submit(model, "Later.") for model in models for _ in range(3)]
            yield Busy(foreman, done, failed, cancelled, working, waiting[0])


async def faults_of(tab: Tab, name: str) -> list[str]:
    """What keeps people from using the view as it is now."""
    found = await findings(tab.page)
    found += await cut_off(tab.page)
    return [f"{name}: {fault}" for fault in found]


@looks
async def test_every_view_of_a_busy_foreman_can_be_used_by_everybody(browser, tmp_path, scheme, width):
    async with busy(tmp_path) as shown, opened(browser, shown.foreman.url, width=width, scheme=scheme) as tab:
        main, found = tab.page.get_by_role("main"), []
        await expect(tab.page.get_by_test_id("live-text")).not_to_be_empty()
        await expect(region(tab, "Waiting").get_by_role("link").first).to_be_visible()
        await expect(region(tab, "Recent jobs").get_by_role("link").first).to_be_visible()
        found += await faults_of(tab, "overview")
        await tab.open("#/jobs")
        await expect(main.locator(f'a[href="#/jobs/{shown.done}"]').first).to_be_visible()
        found += await faults_of(tab, "jobs")
        for name in ("done", "failed", "cancelled", "working", "waiting"):
            await tab.open(f"#/jobs/{getattr(shown, name)}")
            await expect(state(tab)).to_have_text("queued" if name == "waiting" else name, ignore_case=True)
            await expect(tab.page.get_by_test_id("prompt")).to_be_visible()
            found += await faults_of(tab, f"job, {name}")
        await tab.page.get_by_role("button", name="Cancel job").click()
        await expect(tab.page.get_by_role("dialog")).to_be_visible()
        found += await faults_of(tab, "cancel dialog")
        await tab.page.keyboard.press("Escape")
        await tab.open("#/models")
        await expect(main).to_contain_text("qwen3:8b")
        found += await faults_of(tab, "models")
        await tab.open("#/webhooks")
        await expect(main).to_contain_text("127.0.0.1")
        found += await faults_of(tab, "webhooks")
        assert not found, "\n".join(found)


@looks
async def test_an_empty_foreman_and_its_alert_can_be_used_by_everybody(browser, tmp_path, scheme, width):
    async with (
        FakeOllama(["a"]) as fake,
        running(tmp_path, fake.url, poll_interval="50ms") as foreman,
        opened(browser, foreman.url, width=width, scheme=scheme) as tab,
    ):
        tab.expect_fault("400")  # of what is no job
        found = []
        for name in ("Running", "Throughput"):
            await expect(region(tab, name)).to_be_visible()
        for fragment in ("#/", "#/jobs", "#/models", "#/webhooks", "#/jobs/nothing"):
            await tab.open(fragment)
            await expect(tab.page.get_by_role("heading", level=1)).to_be_visible()
            found += await faults_of(tab, fragment)
        await tab.open("#/")
        await fake.go_away()
        await expect(tab.page.get_by_role("alert")).to_be_visible()
        found += await faults_of(tab, "target away")
        assert not found, "\n".join(found)


@looks
async def test_the_token_form_can_be_used_by_everybody(browser, tmp_path, scheme, width):
    async with (
        FakeOllama(["a"]) as fake,
        running(tmp_path, fake.url, token="t0ken") as foreman,
        opened(browser, foreman.url, width=width, scheme=scheme) as tab,
    ):
        tab.expect_fault("401")
        field = tab.page.get_by_label("Token", exact=True)
        await expect(field).to_be_visible()
        found = await faults_of(tab, "before")
        await field.fill("wrong")
        await field.press("Enter")
        await expect(tab.page.get_by_text("wrong")).to_be_visible()
        found += await faults_of(tab, "refused")
        assert not found, "\n".join(found)
