"""What a receiver is told: every transition of its job in order, each with the same members, and never more."""

from __future__ import annotations

import pytest

from foreman.commands.types import ExpireJob
from foreman.fsm.job import State
from tests.fakes.receiver import hang
from tests.integration.webhook_kit import lane, settled, telling

KEYS = {
    *("job_id", "state", "previous_state", "timestamp", "model", "attempt", "result", "artifacts", "error"),
    *("last_attempt_error", "version", "log_position", "log_hash"),
}


def told(receiver):
    """What has arrived."""
    return [arrival.payload for arrival in receiver.arrivals]


async def test_every_transition_arrives_in_order_with_the_same_members(tmp_path):
    async with telling(tmp_path) as (_, receiver, foreman):
        job_id = await foreman.submit("a", state_webhook_url=receiver.url)
        await receiver.wait_for(4)
        payloads = told(receiver)
        assert {frozenset(payload) for payload in payloads} == {frozenset(KEYS)}
        assert [(item["state"], item["previous_state"], item["attempt"], item["version"]) for item in payloads] == [
            ("queued", None, 0, 1),
            ("loading", "queued", 1, 2),
            ("working", "loading", 1, 3),
            ("done", "working", 1, 4),
        ]
        assert {(item["job_id"], item["model"]) for item in payloads} == {(job_id, "a")}
        absent = {item[name] for item in payloads[:3] for name in ("result", "artifacts", "error")}
        assert absent | {item["last_attempt_error"] for item in payloads} | {payloads[3]["error"]} == {None}
        arrival = receiver.arrivals[0]
        assert (arrival.method, arrival.path, arrival.headers["content-type"]) == ("POST", "/hook", "application/json")


async def test_a_delivery_witnesses_its_place_in_the_log(tmp_path):
    async with telling(tmp_path) as (_, receiver, foreman):
        job_id = await foreman.submit("a", state_webhook_url=receiver.url)
        await receiver.wait_for(4)
        events = (await foreman.client.get(f"/jobs/{job_id}/events")).json()["events"]
        logged = [(item["version"], item["position"], item["hash"], item["at"]) for item in events]
        assert logged == [
            (item["version"], item["log_position"], item["log_hash"], item["timestamp"]) for item in told(receiver)
        ]
        assert [arrival.id for arrival in receiver.arrivals] == [f"{job_id}-{number}" for number in range(1, 5)]


async def test_a_job_whose_model_is_resident_goes_from_queued_to_working(tmp_path):
    async with telling(tmp_path) as (_, receiver, foreman):
        await foreman.until_finished(await foreman.submit("a"))
        await foreman.submit("a", state_webhook_url=receiver.url)
        await receiver.wait_for(3)
        assert [(item["state"], item["previous_state"]) for item in told(receiver)] == [
            ("queued", None), ("working", "queued"), ("done", "working")]  # fmt: skip


async def test_done_brings_the_result_and_the_artifacts_that_the_job_shows(tmp_path):
    async with telling(tmp_path) as (_, receiver, foreman):
        job_id = await foreman.submit("a", "hello world", state_webhook_url=receiver.url)
        done = (await receiver.wait_for(4))[3].payload
        job = (await foreman.client.get(f"/jobs/{job_id}")).json()
        assert (done["result"], done["result"]["generated_tokens"]) == (job["result"], 2)
        shown = {item["name"]: item for item in done["artifacts"]}
        assert shown["completion"]["data"]["message"]["content"] == "hello world"
        assert shown["completion"]["url"] == f"/jobs/{job_id}/artifacts/completion"
        sizes = {item["name"]: (item["size"], item["sha256"]) for item in job["artifacts"]}
        assert {name: (item["size"], item["sha256"]) for name, item in shown.items()} == sizes


async def test_a_large_artifact_is_a_link_that_leads_to_it(tmp_path):
    public = "https://queue.example/base"
    async with telling(tmp_path, inline_limit="10B", public_url=public) as (_, receiver, foreman):
        await foreman.submit("a", "hello world", state_webhook_url=receiver.url)
        completion = (await receiver.wait_for(4))[3].payload["artifacts"][0]
        assert "data" not in completion
        assert completion["url"].startswith(f"{public}/jobs/")
        found = await foreman.client.get(completion["url"].removeprefix(public))
        assert (found.status_code, len(found.content)) == (200, completion["size"])


async def test_a_broken_attempt_and_a_cancelled_job_say_why(tmp_path):
    async with telling(tmp_path) as (fake, receiver, foreman):
        fake.inject("reset_after", after=1)
        job_id = await foreman.submit("a", "a b c", state_webhook_url=receiver.url)
        await receiver.wait_for(4)
        await foreman.client.delete(f"/jobs/{job_id}")
        requeued, cancelled = [arrival.payload for arrival in (await receiver.wait_for(5))[3:]]
        assert (requeued["state"], requeued["previous_state"], requeued["attempt"]) == ("queued", "working", 1)
        assert (requeued["last_attempt_error"], requeued["error"]) == ((await foreman.job(job_id)).error, None)
        assert requeued["last_attempt_error"]
        assert (cancelled["state"], cancelled["previous_state"]) == ("cancelled", "queued")
        assert cancelled["error"] == {"message": "the job was cancelled", "code": "cancelled", "by": "api"}
        assert (cancelled["last_attempt_error"], cancelled["result"], cancelled["artifacts"]) == (None, None, None)


async def test_a_failed_job_says_why(tmp_path):
    async with telling(tmp_path) as (fake, receiver, foreman):
        fake.inject("status", status=400, body="no such option")
        await foreman.submit("a", state_webhook_url=receiver.url)
        failed = (await receiver.wait_for(4))[3].payload
        assert (failed["state"], failed["previous_state"], failed["result"]) == ("failed", "working", None)
        assert (failed["error"]["code"], failed["error"]["status"]) == ("target_refused", 400)
        assert "no such option" in failed["error"]["message"]


@pytest.mark.parametrize(
    ("events", "states"),
    [([], ["done"]), (["working"], ["working", "done"]), (["queued", "failed"], ["queued", "done"])],
    ids=["none", "one", "two"],
)
async def test_a_filter_leaves_out_states_but_never_the_final_one(tmp_path, events, states):
    async with telling(tmp_path) as (_, receiver, foreman):
        job_id = await foreman.submit("a", state_webhook_url=receiver.url, webhook_events=events)
        await foreman.until_finished(job_id)
        await settled(foreman)
        assert [item["state"] for item in told(receiver)] == states


async def test_removal_by_age_is_not_told(tmp_path):
    async with telling(tmp_path) as (_, receiver, foreman):
        job_id = await foreman.submit("a", state_webhook_url=receiver.url)
        await receiver.wait_for(4)
        await settled(foreman)
        await foreman.foreman.ledger.execute(ExpireJob(job_id=job_id))
        assert foreman.foreman.ledger.outbox.pending == 0
        assert (await foreman.job(job_id)).state is State.EXPIRED
        assert len(receiver.arrivals) == 4


async def test_a_blocking_call_tells_nobody(tmp_path):
    async with telling(tmp_path) as (_, receiver, foreman):
        assert (await foreman.chat("a", state_webhook_url=receiver.url)).status_code == 200
        assert await foreman.foreman.database.read("SELECT * FROM deliveries") == []
        assert receiver.connections == 0


async def test_a_job_is_done_while_its_receiver_hangs_at_the_first_delivery(tmp_path):
    async with telling(tmp_path) as (_, receiver, foreman):
        receiver.default = hang()
        job_id = await foreman.submit("a", state_webhook_url=receiver.url)
        assert [job.state for job in await foreman.until_finished(job_id)] == [State.DONE]
        await receiver.wait_for(1)
        assert (receiver.open, len(receiver.arrivals)) == (1, 1)
        assert (lane(foreman, job_id).taken, len(lane(foreman, job_id).pending)) == (True, 4)
