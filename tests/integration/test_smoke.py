"""The main job, end to end in one process: a blocking call and a job become events, run, and come back right."""

from __future__ import annotations

from foreman.fsm.job import State
from tests.fakes.ollama import FakeOllama
from tests.kit import running


async def test_blocking_call_is_answered_through_the_queue(tmp_path):
    async with FakeOllama(models=["a"]) as fake, running(tmp_path, fake.url) as foreman:
        answer = await foreman.chat("a", "hello world")
        assert answer.status_code == 200
        assert answer.json()["message"]["content"] == "hello world"
        job_id = answer.headers["x-foreman-job-id"]
        await foreman.until_state(job_id, State.DONE)
        assert await foreman.types(job_id) == ["job.queued", "job.loading", "job.working", "job.done"]


async def test_asynchronous_job_is_answered_in_its_own_time(tmp_path):
    async with FakeOllama(models=["a"]) as fake, running(tmp_path, fake.url) as foreman:
        job_id = await foreman.submit("a", "hello world")
        answer = (await foreman.client.get(f"/jobs/{job_id}", params={"wait": "20s"})).json()
        assert answer["state"] == "done"
        assert answer["artifacts"][0]["data"]["message"]["content"] == "hello world"


async def test_sixty_interleaved_calls_for_three_models_take_three_loads(tmp_path):
    async with FakeOllama(models=["a", "b", "c"]) as fake:
        with fake.hold("a", at="load") as gate:
            async with running(tmp_path, fake.url) as foreman:
                jobs = [await foreman.submit("abc"[number % 3]) for number in range(60)]
                gate.release()
                assert {job.state for job in await foreman.until_finished(*jobs)} == {State.DONE}
        assert len(fake.loads) == 3
