"""`GET /statistics`: figures over time that equal queries over the log, totals, models, webhooks and the target."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise

import pytest

from foreman.api.statistics import MOST_RECEIVERS, WINDOWS
from foreman.events.types import Position
from foreman.projections.outbox import Told
from foreman.projections.tally import MOST_MODELS
from tests import reckoning
from tests.core import HandClock, submit
from tests.fakes.ollama import FakeOllama
from tests.fakes.receiver import answer
from tests.integration.webhook_kit import failed, lane, look_again, settled, telling
from tests.kit import Running, running

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
#: Noon of some day.
NOON = 19_675 * 24 * HOUR + 12 * HOUR
COUNTS = ("submitted", "done", "failed", "cancelled")


async def shown(foreman: Running, window: str | None = None) -> dict:
    """What there is to see."""
    response = await foreman.client.get("/statistics", params={"window": window} if window else {})
    assert response.status_code == 200, response.text
    return response.json()


def micros(text: str) -> int:
    return round(datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC).timestamp() * SECOND)


async def jobs_of_each_outcome(foreman: Running, fake: FakeOllama, clock: HandClock) -> None:
    """One that is answered, one that the target refuses and one that is cancelled; the load takes 5 s."""
    with fake.hold("a", at="load") as load:
        ids = [await foreman.submit("a")]
        await load.reached()
        fake.inject("status", model="a", status=400)
        ids += [await foreman.submit("a"), await foreman.submit("b")]
        await foreman.client.delete(f"/jobs/{ids[2]}")
        clock.at += 5 * SECOND
    ids.append(await foreman.submit("b"))
    await foreman.until_finished(*ids)


async def some_days(foreman: Running, fake: FakeOllama, clock: HandClock) -> None:
    """Such jobs now, and again some minutes, hours and days later."""
    for step in (0, 3 * MINUTE, 40 * MINUTE, 5 * HOUR, 20 * HOUR, 100 * HOUR, 2 * HOUR, 30 * SECOND):
        clock.at += step
        await jobs_of_each_outcome(foreman, fake, clock)


def expected(row: tuple[float, ...] | None) -> dict:
    """What a point is to say, from the row that a query gives of its stretch of time."""
    *counts, runs, waited, longest, read, made, generation, ran, swaps, loads = row or (0,) * 13
    return {
        **dict(zip(COUNTS, counts, strict=True)),
        "wait_mean_seconds": pytest.approx(waited / runs, abs=1e-3) if runs else None,
        "wait_longest_seconds": pytest.approx(longest, abs=1e-3) if runs else None,
        "prompt_tokens": read,
        "generated_tokens": made,
        "tokens_per_second": pytest.approx(made / generation, abs=1e-3) if generation else None,
        "run_seconds": pytest.approx(ran, abs=1e-3),
        "swaps": swaps,
        "load_seconds": pytest.approx(loads, abs=1e-3),
    }


@pytest.mark.parametrize("window", WINDOWS)
async def test_points_equal_a_query_over_the_log(tmp_path, window):
    clock = HandClock(NOON)
    async with FakeOllama(["a", "b"]) as fake, running(tmp_path, fake.url, clock=clock) as foreman:
        await some_days(foreman, fake, clock)
        found, events = await shown(foreman, window), await foreman.events()
    width_s, count = WINDOWS[window]
    last = clock.at // (width_s * SECOND)
    numbers = range(last - count + 1, last + 1)
    rows = reckoning.over_time(events, width_s, numbers[0], numbers[-1])
    assert sum(any(row) for row in rows.values()) > 1 or window == "1h"
    points = found["points"]
    assert [micros(point.pop("at")) for point in points] == [number * width_s * SECOND for number in numbers]
    assert points == [expected(rows.get(number)) for number in numbers]
    assert (found["window"], found["bucket_seconds"]) == (window, width_s)
    assert (micros(found["from"]), micros(found["to"])) == (numbers[0] * width_s * SECOND, clock.at)


async def test_each_stretch_of_the_window_is_a_point_though_nothing_happened_in_it(tmp_path):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url) as foreman:
        found = await shown(foreman)
    assert (found["window"], found["bucket_seconds"], len(found["points"])) == ("1h", 60, 60)
    times = [micros(point.pop("at")) for point in found["points"]]
    assert all(later - earlier == MINUTE for earlier, later in pairwise(times))
    assert all(point == expected(None) for point in found["points"])


async def test_totals_equal_the_metrics_of_the_log(tmp_path):
    clock = HandClock(NOON)
    async with FakeOllama(["a", "b"]) as fake, running(tmp_path, fake.url, clock=clock) as foreman:
        await jobs_of_each_outcome(foreman, fake, clock)
        found = (await shown(foreman))["totals"]
        numbers = reckoning.of_events(await foreman.events())
    finished = {"done": 0, "failed": 0, "cancelled": 0}
    for (_, outcome), (value,) in numbers["foreman_jobs_finished_total"].items():
        finished[outcome] += value
    metrics = {
        "submitted": "jobs_submitted_total",
        "prompt_tokens": "prompt_tokens_total",
        "generated_tokens": "generated_tokens_total",
        "swaps": "model_swaps_total",
        "swaps_in_order": "model_swaps_in_order_total",
        "swaps_avoided": "model_swaps_avoided",
        "outages": "target_outages_total",
        "stalls": "target_stalls_total",
        "starts": "starts_total",
    }
    sums = {name: sum(value for (value,) in numbers[f"foreman_{own}"].values()) for name, own in metrics.items()}
    assert found == {**sums, **finished}
    assert finished == {"done": 2, "failed": 1, "cancelled": 1}


async def test_restart_changes_no_figure(tmp_path):
    clock = HandClock(NOON)
    async with FakeOllama(["a", "b"]) as fake:
        async with running(tmp_path, fake.url, clock=clock) as foreman:
            await some_days(foreman, fake, clock)
            before = [await shown(foreman, window) for window in WINDOWS]
        async with running(tmp_path, fake.url, clock=clock) as foreman:
            after = [await shown(foreman, window) for window in WINDOWS]
    assert [one["points"] for one in after] == [one["points"] for one in before]
    assert {one["totals"].pop("starts") for one in after} == {2}
    assert {one["totals"].pop("starts") for one in before} == {1}
    assert [one["totals"] for one in after] == [one["totals"] for one in before]


async def test_models_show_what_is_in_memory_what_waits_and_what_was_measured(tmp_path):
    clock = HandClock(NOON)
    async with FakeOllama(["a", "b", "c"]) as fake, running(tmp_path, fake.url, clock=clock) as foreman:
        await jobs_of_each_outcome(foreman, fake, clock)
        with fake.hold("a", at="load") as load:
            await foreman.submit("a")
            await load.reached()
            waiting = [await foreman.submit("b") for _ in range(3)]
            await foreman.foreman.inventory.refresh()
            first, second = (await shown(foreman))["models"]
        await foreman.until_finished(*waiting)
        await foreman.foreman.inventory.refresh()
        resident = (await shown(foreman))["models"][0]
        listed = foreman.foreman.inventory.find("b")
    assert (first["model"], first["waiting"], first["submitted"], first["done"]) == ("b:latest", 3, 5, 1)
    assert (second["model"], second["waiting"], second["failed"], second["resident"]) == ("a:latest", 0, 1, False)
    assert second["load_mean_seconds"] == pytest.approx(5.0, abs=0.01)
    assert first["cancelled"] == 1
    assert (resident["model"], resident["resident"], resident["digest"]) == ("b:latest", True, listed.digest)
    assert resident["expires_at"] is not None
    assert (resident["waiting"], resident["done"]) == (0, 4)
    assert resident["run_mean_seconds"] is not None


async def test_model_in_memory_that_no_job_was_for_is_shown_too(tmp_path):
    async with FakeOllama(["a", "b"]) as fake, running(tmp_path, fake.url) as foreman:
        await foreman.until_finished(await foreman.submit("b"))
        await foreman.client.post(f"{fake.url}/api/generate", json={"model": "a"})
        await foreman.foreman.inventory.refresh()
        models = (await shown(foreman))["models"]
    (own,) = [model for model in models if model["model"] == "a:latest"]
    assert (own["resident"], own["submitted"], own["load_mean_seconds"]) == (True, 0, None)


async def test_models_beyond_those_with_figures_of_their_own_are_one(tmp_path):
    names = [f"m{number}" for number in range(MOST_MODELS + 3)]
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url) as foreman:
        await fake.go_away()
        for name in names:
            await foreman.foreman.ledger.execute(submit(model=name, load_key=name))
        models = (await shown(foreman))["models"]
    assert len(models) == MOST_MODELS + 1
    assert (models[-1]["model"], models[-1]["waiting"], models[-1]["digest"]) == ("other", 3, None)
    assert sum(model["submitted"] for model in models) == len(names)


async def test_receiver_that_fails_is_shown_with_what_it_said_last(tmp_path):
    clock = HandClock(NOON)
    async with telling(tmp_path, clock) as (_, receiver, foreman):
        receiver.behave(answer(503), *[answer(500)] * 11)
        told = await foreman.submit("a", state_webhook_url=receiver.url, webhook_events=["done"])
        done = (await foreman.until_finished(told))[0]
        await failed(foreman, told)
        (pending,) = (found := (await shown(foreman))["webhooks"])["receivers"]
        assert (found["pending"], found["dead"], found["failed"], found["delivered"]) == (1, 0, 1, 0)
        assert (pending["pending"], pending["dead"], pending["last_status"]) == (1, 0, 503)
        assert micros(pending["oldest_pending_at"]) == done.completed_at
        for times in range(2, 12):
            clock.at = lane(foreman, told).head.due
            await look_again(foreman)
            await failed(foreman, told, times)
        clock.at = lane(foreman, told).head.due
        await look_again(foreman)
        await settled(foreman)
        (dead,) = (found := (await shown(foreman))["webhooks"])["receivers"]
    assert (found["pending"], found["dead"], found["failed"]) == (0, 1, 12)
    assert (dead["pending"], dead["dead"], dead["last_status"]) == (0, 1, 500)
    assert (dead["oldest_pending_at"], micros(dead["last_attempt_at"])) == (None, clock.at)


async def test_receiver_that_takes_everything_is_not_shown(tmp_path):
    async with telling(tmp_path) as (_, receiver, foreman):
        await foreman.until_finished(await foreman.submit("a", state_webhook_url=receiver.url))
        await settled(foreman)
        found = (await shown(foreman))["webhooks"]
    assert (found["receivers"], found["pending"], found["failed"]) == ([], 0, 0)
    assert found["delivered"] > 0


async def test_of_many_receivers_those_with_the_most_are_shown_worst_first(tmp_path):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url) as foreman:
        outbox, positions = foreman.foreman.ledger.outbox, iter(range(1_000, 2_000))
        for number in range(30):
            for job in range(number + 1):
                told = {"job_id": f"J{number}-{job}", "version": 1, "state": "done", "at": 10**18}
                outbox.apply(Told(receiver=f"r{99 - number}:80", position=Position(next(positions)), **told))
        shown_ = (await shown(foreman))["webhooks"]["receivers"]
    assert [(one["receiver"], one["pending"]) for one in shown_] == [
        (f"r{99 - number}:80", number + 1) for number in range(29, 29 - MOST_RECEIVERS, -1)
    ]


async def test_target_is_as_healthz_says_and_since_when_it_is_away(tmp_path):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url, poll_interval="20ms") as foreman:
        await foreman.until_finished(await foreman.submit("a"))
        assert (await shown(foreman))["target"]["reachable"] is True
        await fake.go_away()
        await foreman.until(lambda: foreman.foreman.inventory.up is False)
        found, health = await shown(foreman), (await foreman.client.get("/healthz")).json()
    assert found["target"]["degraded_since"] == health["degraded_since"] is not None
    assert {name: found["target"][name] for name in ("reachable", "version", "last_success")} == {
        name: health["target"][name] for name in ("reachable", "version", "last_success")
    }
    assert (found["target"]["degraded"], found["totals"]["outages"]) == (True, 1)
    assert not any(model["resident"] for model in found["models"])


@pytest.mark.parametrize("query", ["window=2h", "window=", "window=1h&window=6h", "limit=1"])
async def test_wrong_query_is_refused(tmp_path, query):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url) as foreman:
        refused = await foreman.client.get(f"/statistics?{query}")
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid_request")


async def test_other_method_is_refused_in_foremans_words(tmp_path):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url) as foreman:
        refused = await foreman.client.post("/statistics")
    assert (refused.status_code, refused.json()["code"]) == (405, "method_not_allowed")


async def test_statistics_need_the_token_when_one_is_set(tmp_path):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url, token="secret") as foreman:
        refused = await foreman.client.get("/statistics")
        answered = await foreman.client.get("/statistics", headers={"authorization": "Bearer secret"})
    assert (refused.status_code, refused.json()["code"]) == (401, "unauthorized")
    assert answered.status_code == 200
