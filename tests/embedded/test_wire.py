"""Ollama's own client, and raw HTTP where the client hides the wire, against a real model."""

from __future__ import annotations

import json

import ollama
import pytest

MODEL, OTHER = "smollm2:135m", "smollm2-concise:135m"
HELLO = [{"role": "user", "content": "Say hello."}]


def test_models_over_one_file_have_different_digests(client):
    models = client.list().models
    assert [model.model for model in models] == [MODEL, OTHER, "smollm2-story:135m", "all-minilm:latest"]
    assert len({model.digest for model in models}) == 4
    assert {len(model.digest) for model in models} == {64}


def test_show_tells_what_the_file_says(client):
    shown = client.show("library/SmolLM2-concise:135M")
    assert shown.details.quantization_level == "Q4_1"
    assert shown.details.parameter_size == "134.52M"
    assert shown.modelinfo["llama.context_length"] == 8192
    assert shown.capabilities == ["completion"]
    assert "one short sentence" in shown.modelfile


def test_streamed_chat_ends_with_counts_and_durations(client):
    chunks = list(client.chat(MODEL, HELLO, stream=True, options={"num_predict": 6, "seed": 1}))
    last = chunks[-1]
    assert [chunk.done for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert "".join(chunk.message.content for chunk in chunks).strip()
    assert (last.done_reason, last.eval_count) == ("length", 6)
    assert 0 < last.eval_duration < last.total_duration
    assert 0 < last.load_duration < last.total_duration
    assert last.prompt_eval_count > 10


def test_same_seed_gives_the_same_chat_streamed_or_not(client):
    options = {"num_predict": 12, "seed": 7}
    client.chat(MODEL, HELLO, options=options)
    whole = client.chat(MODEL, HELLO, options=options).message.content
    parts = client.chat(MODEL, HELLO, options=options, stream=True)
    assert "".join(part.message.content for part in parts) == whole


def test_system_prompt_is_counted_as_prompt(client):
    options = {"num_predict": 1}
    plain = client.generate(MODEL, "Hi", options=options)
    told = client.generate(MODEL, "Hi", system="You are a pirate. " * 10, options=options)
    assert told.prompt_eval_count > plain.prompt_eval_count + 20


def test_generate_continues_from_its_context(client):
    options = {"num_predict": 4}
    first = client.generate(MODEL, "My name is Ada.", options=options)
    second = client.generate(MODEL, "What is my name?", context=first.context, options=options)
    assert second.prompt_eval_count > len(first.context)
    assert list(second.context[: len(first.context)]) == list(first.context)


def test_raw_generate_stops_at_the_stop_word(client):
    answer = client.generate(
        MODEL, "1, 2, 3, 4, 5, 6,", raw=True, options={"temperature": 0, "stop": ["9"], "num_predict": 40}
    )
    assert answer.response.startswith(" 7, 8")
    assert "9" not in answer.response
    assert (answer.done_reason, answer.context) == ("stop", None)


def test_format_makes_the_answer_fit_the_schema(client):
    schema = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}
    answer = client.chat(MODEL, HELLO, format=schema, options={"seed": 1})
    assert isinstance(json.loads(answer.message.content)["age"], int)


def test_long_chat_drops_its_oldest_turns(client):
    turns = [{"role": "user", "content": f"Turn {number}. " + "word " * 100} for number in range(6)]
    answer = client.chat(MODEL, turns, options={"num_ctx": 256, "num_predict": 1})
    assert 100 < answer.prompt_eval_count <= 256


def test_prompt_that_may_not_be_cut_is_refused(embedded):
    with embedded.http() as http:
        body = {"model": MODEL, "prompt": "word " * 400, "truncate": False, "options": {"num_ctx": 256}}
        answer = http.post("/api/generate", json=body)
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["error"].startswith("the prompt is longer than the context length currently available")


def test_unknown_model_is_a_404_in_ollamas_words(client):
    for call in (lambda: client.chat("nope", HELLO), lambda: client.show("nope:latest")):
        with pytest.raises(ollama.ResponseError, match=r"model 'nope(:latest)?' not found") as caught:
            call()
        assert caught.value.status_code == 404
    with pytest.raises(ollama.ResponseError, match='model "nope" not found, try pulling it first'):
        client.embeddings("nope", "x")


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        ({"keep_alive": "-1"}, 400, 'time: missing unit in duration "-1"'),
        ({"keep_alive": ""}, 400, 'time: invalid duration ""'),
        ({"keep_alive": True}, 400, "Unsupported type: 'bool'"),
        ({"model": 3}, 400, "json: cannot unmarshal number into Go struct field ChatRequest.model of type string"),
        ({"model": ""}, 400, "model is required"),
        ({"model": "a b"}, 400, "invalid model name"),
        ({"think": True}, 400, f'"{MODEL}" does not support thinking'),
        ({"tools": [{}]}, 400, f"registry.ollama.ai/library/{MODEL} does not support tools"),
        (
            {"messages": [{"role": "user", "images": ["eA=="]}]},
            400,
            f"registry.ollama.ai/library/{MODEL} does not support vision",
        ),
        ({"options": {"num_ctx": "x"}}, 500, 'option "num_ctx" must be of type integer'),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_bad_request_is_refused_in_ollamas_words(embedded, body, status, error):
    with embedded.http() as http:
        answer = http.post("/api/chat", json={"model": MODEL, "messages": HELLO} | body)
    assert (answer.status_code, answer.json()) == (status, {"error": error})


def test_headers_and_plain_texts_are_ollamas(embedded):
    with embedded.http() as http:
        root, lost, wrong = http.get("/"), http.get("/api/nope"), http.get("/api/chat")
        stream = http.post("/api/generate", json={"model": MODEL, "prompt": "x", "options": {"num_predict": 1}})
        head = http.head("/api/ps")
    assert (root.text, root.headers["content-type"]) == ("Ollama is running", "text/plain; charset=utf-8")
    assert (lost.status_code, lost.text, lost.headers["content-type"]) == (404, "404 page not found", "text/plain")
    assert (wrong.status_code, wrong.text, wrong.headers["allow"]) == (405, "405 method not allowed", "POST")
    assert head.status_code == 405
    assert stream.headers["content-type"] == "application/x-ndjson"
    assert "server" not in stream.headers
    assert list(json.loads(stream.text.splitlines()[-1])) == [
        *("model", "created_at", "response", "done", "done_reason", "context", "total_duration", "load_duration"),
        *("prompt_eval_count", "prompt_eval_duration", "eval_count", "eval_duration"),
    ]
