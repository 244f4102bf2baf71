"""Requests as Ollama reads them, and the bodies that foreman sends in their place."""

from __future__ import annotations

import orjson
import pytest

from foreman.errors import RequestInvalid
from foreman.target.requests import load_body, read_generation, with_members, work_body

CHAT = b'{"model":"a","messages":[{"role":"user","content":"hi"}]}'


@pytest.mark.parametrize(
    ("body", "stream"),
    [(b"{}", True), (b'{"stream":true}', True), (b'{"stream":null}', True), (b'{"stream":false}', False)],
)
def test_answer_is_streamed_unless_the_request_says_no(body, stream):
    assert read_generation(body).stream is stream


def test_keys_match_in_any_case_and_the_last_of_two_wins():
    generation = read_generation(b'{"Model":"a","MODEL":"b","Options":{"num_ctx":1},"Prompt":"x"}')
    assert (generation.model, generation.options, generation.empty) == ("b", {"num_ctx": 1}, False)


@pytest.mark.parametrize("body", [b'{"model":""}', b'{"model":7}', b"{}"])
def test_request_without_a_models_name_names_none(body):
    assert read_generation(body).model is None


def test_only_the_first_json_value_counts_as_in_go():
    generation = read_generation(CHAT + b' {"model":"b"} trailing')
    assert (generation.model, generation.body) == ("a", CHAT)


def test_broken_utf8_is_read_as_go_reads_it():
    generation = read_generation(b'{"model":"a\xff","prompt":"x"}')
    assert generation.model == "a\ufffd"
    assert orjson.loads(generation.body)["model"] == "a\ufffd"


@pytest.mark.parametrize("body", [b"", b"  ", b"[]", b'"x"', b"{", b'{"a":NaN}', b"nonsense"])
def test_body_that_is_no_object_is_invalid(body):
    with pytest.raises(RequestInvalid):
        read_generation(body)


def nested(depth: int) -> bytes:
    return b'{"model":"a","format":' + b"[" * depth + b"]" * depth + b"}"


def test_nesting_as_deep_as_go_allows_is_read():
    assert read_generation(nested(5_000)).model == "a"


def test_nesting_that_go_refuses_is_refused_and_not_fatal():
    with pytest.raises(RequestInvalid, match="not valid JSON"):
        read_generation(nested(100_000))


@pytest.mark.parametrize(
    ("members", "unloads"),
    [
        ({"keep_alive": 0}, True),
        ({"keep_alive": "0s"}, True),
        ({"keep_alive": 0, "messages": []}, True),
        ({"keep_alive": 0, "prompt": "x"}, False),
        ({"keep_alive": False}, False),
        ({"keep_alive": -1}, False),
        ({}, False),
    ],
    ids=str,
)
def test_request_with_nothing_to_do_and_nothing_to_keep_unloads(members, unloads):
    assert read_generation(orjson.dumps({"model": "a", **members})).unloads is unloads


@pytest.mark.parametrize(
    ("body", "sent"),
    [
        (b"{}", b'{"x":1}'),
        (b" { } \n", b' {"x":1}'),
        (b'{"a" : 1.0 }', b'{"a" : 1.0,"x":1}'),
    ],
)
def test_members_are_added_and_the_rest_stays_byte_for_byte(body, sent):
    assert with_members(body, {"x": 1}) == sent
    assert with_members(body, {}) == body


def test_work_goes_up_as_it_came_but_for_what_is_foremans_to_say():
    assert work_body(read_generation(CHAT), -1, stream=None) == CHAT[:-1] + b',"keep_alive":-1}'
    kept = CHAT[:-1] + b',"keep_alive":"5m"}'
    assert work_body(read_generation(kept), -1, stream=None) == kept
    assert orjson.loads(work_body(read_generation(kept), -1, stream=True))["stream"] is True


def test_load_asks_for_the_same_model_and_options_and_for_no_answer():
    body = orjson.dumps({"model": "a", "prompt": "hi", "options": {"num_ctx": 1}})
    sent = orjson.loads(load_body(read_generation(body), "5m"))
    assert (sent["model"], sent["options"], sent["prompt"], sent["messages"]) == ("a", {"num_ctx": 1}, "", [])
    assert (sent["stream"], sent["keep_alive"]) == (False, "5m")


def test_load_for_a_job_that_wants_the_model_gone_does_not_unload_it():
    body = orjson.dumps({"model": "a", "prompt": "hi", "keep_alive": 0})
    assert orjson.loads(load_body(read_generation(body), -1))["keep_alive"] == 300
