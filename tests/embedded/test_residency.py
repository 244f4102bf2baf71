"""Loads, swaps, unloads and what happens to a running answer meanwhile: real runner processes."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor

import ollama
import pytest

from tests.embedded.process_tree import Watch, children_of

MODEL, OTHER = "smollm2:135m", "smollm2-concise:135m"


def test_load_and_unload_requests_say_so_and_show_in_ps(embedded, client):
    assert client.generate(MODEL, "").done_reason == "load"
    (loaded,) = client.ps().models
    assert (loaded.model, loaded.context_length, loaded.size_vram) == (MODEL, 4096, 0)
    assert loaded.size > 50_000_000
    runner = Watch(children_of(embedded.pid))
    assert client.chat(MODEL, [], keep_alive="0s").done_reason == "unload"
    assert embedded.loaded() == []
    assert runner.all_ended()


def test_second_model_takes_the_place_of_the_first(embedded, client):
    client.generate(MODEL, "")
    first = Watch(children_of(embedded.pid))
    client.generate(OTHER, "")
    assert embedded.loaded() == [OTHER]
    assert first.all_ended()


def test_eviction_waits_for_the_running_answer(embedded, client):
    answer = client.generate(MODEL, "Tell me a story.", stream=True, options={"num_predict": 60, "seed": 3})
    next(answer)
    with ThreadPoolExecutor() as threads:
        swap = threads.submit(client.generate, OTHER, "")
        assert list(answer)[-1].done
        swap.result()
    assert embedded.loaded() == [OTHER]


def test_other_num_ctx_loads_the_model_anew(embedded, client):
    client.generate(MODEL, "")
    first = children_of(embedded.pid)
    client.generate(MODEL, "", options={"num_ctx": 1024})
    assert client.ps().models[0].context_length == 1024
    assert children_of(embedded.pid) != first


def test_same_options_keep_the_runner(embedded, client):
    client.generate(MODEL, "")
    first = children_of(embedded.pid)
    client.generate(MODEL, "Hi", options={"temperature": 0.1, "num_predict": 1})
    assert children_of(embedded.pid) == first


def test_model_leaves_when_its_keep_alive_is_over(embedded, client):
    client.generate(MODEL, "", keep_alive=0.3)
    assert embedded.loaded() == [MODEL]
    assert Watch(children_of(embedded.pid)).all_ended()
    assert embedded.loaded() == []


def test_absent_keep_alive_keeps_the_present_one(client):
    client.generate(MODEL, "", keep_alive=-1)
    client.generate(MODEL, "Hi", options={"num_predict": 1})
    assert client.ps().models[0].expires_at.year > 2200


def test_caller_who_leaves_stops_the_answer(embedded):
    body = {
        "model": MODEL,
        "prompt": "Count.",
        "options": {"num_predict": 8000, "stop": []},
        "format": {"type": "array", "minItems": 9999},
    }
    with embedded.http() as http:
        with http.stream("POST", "/api/generate", json=body) as answer:
            next(answer.iter_lines())
        # There is one slot: this would wait a minute for the end of the other.
        after = http.post(
            "/api/generate", json={"model": MODEL, "prompt": "Hi", "options": {"num_predict": 1}}, timeout=10
        )
    assert after.status_code == 200


def test_runner_that_dies_ends_the_stream_with_an_error_and_is_replaced(embedded, client):
    answer = client.generate(MODEL, "Tell me a story.", stream=True, options={"num_predict": 500})
    next(answer)
    (runner,) = children_of(embedded.pid)
    os.kill(runner, signal.SIGKILL)
    with pytest.raises(ollama.ResponseError, match="model runner has unexpectedly stopped") as caught:
        list(answer)
    assert caught.value.status_code == -1  # the client's mark for an error inside a stream
    assert client.generate(MODEL, "Hi", options={"num_predict": 1}).done


def test_concurrent_calls_to_two_models_are_all_answered(client):
    with ThreadPoolExecutor(6) as threads:
        calls = [threads.submit(client.generate, name, "Hi", options={"num_predict": 2}) for name in (MODEL, OTHER) * 3]
        assert all(call.result().done for call in calls)
