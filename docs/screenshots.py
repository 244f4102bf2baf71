"""Takes the pictures of the dashboard in docs/images: `make screenshots`. Run by hand, and look at what comes out.

Owns the story that the pictures show: an hour of work, written to a database by the ledger itself, then a foreman on
that database in front of a fake Ollama. Must not touch anything but docs/images.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections import deque
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final, Literal

import orjson
from playwright.async_api import expect
from ulid import ULID

from foreman.commands.types import (
    CancelJob,
    FailJob,
    FinishJob,
    Note,
    StartLoading,
    StartWorking,
    Submission,
    SubmitJobs,
)
from foreman.events.daemon import DaemonStarted, ModelSwapped
from foreman.events.types import CancelledBy, Endpoint, JobClass, JobQueued, Source, Webhook
from foreman.projections import contents
from foreman.projections.contents import artifact
from foreman.projections.job import Metrics
from tests.browser.chromium import chromium
from tests.browser.scene import connection, region
from tests.browser.tab import Tab, opened
from tests.core import Core, HandClock
from tests.core import opened as opened_core
from tests.fakes.machine import FakeModel
from tests.fakes.ollama import FakeOllama
from tests.fakes.receiver import Receiver, answer
from tests.kit import Running, running

IMAGES: Final = Path(__file__).parent / "images"
#: The most that a picture may weigh in the repository.
LARGEST: Final = 200_000
SECOND: Final = 1_000_000
HOUR_S: Final = 3_600
#: What is on a picture: width and height of a desktop's window and of a phone's, scrolled a little further.
DESKTOP: Final = (1280, 1130)
PHONE: Final = (390, 1400)
#: Each model with its size, how many tokens a second it makes, and how long it takes to load.
MODELS: Final = {
    "llama3.2": (FakeModel("llama3.2", size=2_019_393_189, parameter_size="3.2B"), 46.0, 4.1),
    "qwen3:8b": (FakeModel("qwen3:8b", size=5_225_388_164, parameter_size="8.2B", family="qwen3"), 21.0, 9.3),
    "mistral": (FakeModel("mistral", size=4_372_824_384, parameter_size="7.2B"), 24.0, 8.2),
}
STARTED: Final = DaemonStarted(foreman_version="", sqlite_version="", waiting=0, requeued=0, cancelled=0)
ASKED: Final = (
    "Summarise the minutes of Monday's meeting in five points.",
    "Which of these tickets are about billing? Answer with their numbers.",
    "Translate the release notes to German.",
    "Write a test for the parser's error paths.",
    "What changed between the two versions of this contract?",
    "Name the people and places in this letter.",
)
SAID: Final = """\
1. The new storage goes into service on Thursday; the old one stays for reading until the end of the month.
2. Support asked for a way to see why a job waits. It is there: the queue gives each job a reason and a time.
3. Two of the four open incidents were the same one. The other two are with the network team.
4. The budget for the second machine is agreed. It is ordered this week.
5. Next meeting: Monday at ten, with the figures of the migration."""
BEING_SAID: Final = """\
The sky is blue because air scatters short waves more strongly than long ones. Sunlight holds all colours; on its way \
through the atmosphere the blue part of it is sent in every direction by molecules that are far smaller than its \
wavelength, and so it reaches the eye from all over the sky. The effect grows with the fourth power of the frequency, \
which is why blue is scattered about four times as much as red. Violet is scattered more still, but the sun sends less \
of it, the upper air takes some of it away, and our eyes are less sensitive to it. In the evening the light comes a \
longer way through the air: most of the blue is gone by then, and what is left is red."""


@dataclass
class Asked:
    """A job of the past, as it will be when its turn comes."""

    job_id: str
    model: str
    text: str
    told: bool
    tokens: int
    ends: Literal["done", "failed", "cancelled"]


class Past:
    """Writes an hour of work to a database, as a foreman would have done it, on a clock of its own."""

    def __init__(self, core: Core, receivers: tuple[str, str], random: Random) -> None:
        self._core, self._clock, self._random = core, core.clock, random
        self._receivers = receivers
        self._waiting: deque[Asked] = deque()
        self._resident: str | None = None
        #: A job whose page shows everything: a load, an answer to the question, a webhook that has arrived.
        self.showpiece = ""

    async def happen(self, until: int) -> None:
        """Jobs come in bursts, and are drained model by model."""
        await self._core.do(Note(event=STARTED))
        arrivals = self._clock.at
        while arrivals < until or self._waiting:
            while arrivals <= min(self._clock.at, until):
                model = self._random.choices(list(MODELS), (6, 3, 2))[0]
                await self._arrive(model, *(self._random.choice(ASKED) for _ in range(self._random.randint(1, 9))))
                arrivals += int(self._random.expovariate(1 / 75) * SECOND)
            if not self._waiting:
                self._clock.at = arrivals
                continue
            mine = next((job for job in self._waiting if job.model == self._resident), self._waiting[0])
            self._waiting.remove(mine)
            await self._run(mine)

    async def wait(self, *models: str) -> None:
        """Leave a job of each of these models in the queue; the fake will echo the first one's prompt as its answer."""
        for number, model in enumerate(models):
            await self._arrive(model, ASKED[number] if number else BEING_SAID)
            self._pass(2)

    async def _arrive(self, model: str, *prompts: str) -> None:
        for text in prompts:
            job_id = str(ULID.from_timestamp(self._clock.at / SECOND))
            prompt = {"model": model, "messages": [{"role": "user", "content": text}]}
            body = artifact(contents.REQUEST, contents.JSON, orjson.dumps(prompt))
            good, bad = self._receivers
            url = self._random.choices((None, good, bad), (5, 4, 1))[0]
            queued = JobQueued(
                model=model,
                load_key=MODELS[model][0].digest,
                endpoint=Endpoint.CHAT,
                source=Source.ASYNC,
                job_class=JobClass.BATCH,
                stream=True,
                request=body.ref,
                max_attempts=3,
                webhook=None if url is None else Webhook(url=url, events=("done",)),
            )
            await self._core.do(SubmitJobs(submissions=(Submission(job_id=job_id, queued=queued, body=body),)))
            ends = self._random.choices(("done", "failed", "cancelled"), (40, 2, 1))[0]
            self._waiting.append(Asked(job_id, model, text, url == good, self._random.randint(60, 520), ends))

    async def _run(self, job: Asked) -> None:
        do, (model, speed, load_s) = self._core.do, MODELS[job.model]
        if job.ends == "cancelled":
            await do(CancelJob(job_id=job.job_id, by=CancelledBy.API))
            return
        swaps = job.model != self._resident
        if swaps:
            await do(StartLoading(job_id=job.job_id, evicts=self._resident))
            self._pass(load_s * self._random.uniform(0.9, 1.2))
            swapped = ModelSwapped(
                model=job.model, load_key=model.digest, load_s=load_s, evicted=self._resident, job_id=job.job_id
            )
            await do(Note(event=swapped))
            self._resident = job.model
        await do(StartWorking(job_id=job.job_id, swapped=swaps, load_s=load_s if swaps else None))
        if job.ends == "failed":
            await do(FailJob(job_id=job.job_id, error="invalid image input", code="target_refused", status=400))
            return
        run_s = job.tokens / (speed * self._random.uniform(0.85, 1.1))
        self._pass(run_s)
        metrics = Metrics(
            done_reason="stop",
            prompt_tokens=self._random.randint(40, 900),
            generated_tokens=job.tokens,
            total_duration=int(run_s * 1e9),
            prompt_eval_duration=int(run_s * 5e7),
            eval_duration=int(run_s * 9.4e8),
            first_token_s=run_s * 0.06,
            run_s=run_s,
        )
        await do(FinishJob(job_id=job.job_id, metrics=metrics, artifacts=_completion(job.model)))
        if swaps and job.told and job.text == ASKED[0]:
            self.showpiece = job.job_id

    def _pass(self, seconds: float) -> None:
        self._clock.at += int(seconds * SECOND)


def _completion(model: str) -> tuple[contents.Artifact, ...]:
    message = {"model": model, "message": {"role": "assistant", "content": SAID}, "done": True, "done_reason": "stop"}
    return (artifact(contents.COMPLETION, contents.JSON, orjson.dumps(message)),)


async def tell(path: Path, receivers: tuple[str, str]) -> str:
    """Write the past; the id of a job worth looking at."""
    now = time.time_ns() // 1_000
    clock = HandClock(now - HOUR_S * SECOND)
    async with opened_core(path, clock) as core:
        past = Past(core, receivers, Random(5))  # noqa: S311  (a story, not a secret)
        await past.happen(now - 180 * SECOND)
        clock.at = max(clock.at, now - 20 * SECOND)
        await past.wait("llama3.2", "qwen3:8b", "mistral", "qwen3:8b")
        if clock.at > now or not past.showpiece:
            raise RuntimeError("the story ends in the future or lacks its showpiece: try another number for Random")
        return past.showpiece


async def take(foreman: Running, job_id: str) -> None:
    """The pictures."""
    async with chromium() as browser:
        for scheme in ("light", "dark"):
            for name, size in (("desktop", DESKTOP), ("phone", PHONE)):
                async with opened(browser, foreman.url, width=size[0], scheme=scheme) as tab:
                    await expect(connection(tab)).to_have_text("live")
                    await expect(region(tab, "Recent jobs").get_by_role("link").last).to_be_visible()
                    await expect(tab.page.get_by_test_id("live-text")).to_contain_text("In the evening")
                    await picture(tab, f"{name}-{scheme}", size)
        async with opened(browser, foreman.url, f"#/jobs/{job_id}", width=DESKTOP[0]) as tab:
            await expect(tab.page.get_by_test_id("answer")).not_to_be_empty()
            await expect(tab.page.get_by_test_id("prompt")).not_to_be_empty()
            await expect(region(tab, "Webhooks").get_by_text("delivered")).to_be_visible()
            await picture(tab, "job", (DESKTOP[0], 2_000))


async def picture(tab: Tab, name: str, size: tuple[int, int]) -> None:
    """What such a window shows, to the page's end if that comes first."""
    IMAGES.mkdir(exist_ok=True)
    height = min(size[1], await tab.evaluate("document.querySelector('main').getBoundingClientRect().bottom"))
    await tab.page.set_viewport_size({"width": size[0], "height": int(height)})
    await tab.page.screenshot(path=IMAGES / f"dashboard-{name}.png")


async def main() -> int:
    """Tell the story, show it, take its pictures; 1 if one of them is too large."""
    async with AsyncExitStack() as stack:
        path = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        good, bad = Receiver(9000), Receiver(9001)
        for receiver in (good, bad):
            await stack.enter_async_context(receiver)
        bad.default = answer(503, b"maintenance until 15:00")
        job_id = await tell(path, (f"{good.url}/foreman", f"{bad.url}/hooks"))
        fake = FakeOllama([model for model, *_ in MODELS.values()], seconds_per_token=1 / 46)
        await stack.enter_async_context(fake)
        gate = stack.enter_context(fake.hold("llama3.2", after=110))
        foreman = await stack.enter_async_context(running(path, fake.url))
        await gate.reached()
        await take(foreman, job_id)
    large = [picture.name for picture in IMAGES.glob("*.png") if picture.stat().st_size > LARGEST]
    for name in large:
        print(f"{name} is larger than {LARGEST:,} bytes", file=sys.stderr)
    return 1 if large else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
