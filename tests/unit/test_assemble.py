"""An answer's lines to one completion, as Ollama puts them together for `stream:false`."""

from __future__ import annotations

import json

import orjson
import pytest

from foreman.errors import TargetBroke
from foreman.worker.assemble import assemble

CALL = {"function": {"name": "f", "arguments": {"x": 1}}}


def lines(*parts) -> bytes:
    return b"".join(orjson.dumps(part) + b"\n" for part in parts)


def chat(content: str = "", **members):
    return {"model": "a", "message": {"role": "assistant", "content": content, **members}, "done": False}


LAST = {**chat(), "done": True, "done_reason": "stop", "prompt_eval_count": 3, "eval_count": 5, "total_duration": 9}


def body(answer: bytes):
    return orjson.loads(assemble(answer).body)


def test_chat_is_joined_and_the_last_line_gives_the_rest():
    whole = body(lines(chat("Hel"), chat("lo"), LAST))
    assert whole == {**LAST, "message": {"role": "assistant", "content": "Hello"}}


def test_thinking_and_tool_calls_accumulate_beside_the_content():
    whole = body(
        lines(chat(thinking="I "), chat(thinking="am"), chat(tool_calls=[CALL]), chat(tool_calls=[CALL]), LAST)
    )
    assert whole["message"] == {"role": "assistant", "content": "", "thinking": "I am", "tool_calls": [CALL, CALL]}


def test_generate_is_joined_with_its_thinking_and_logprobs():
    first = {"response": "Hel", "thinking": "hm", "logprobs": [1], "done": False}
    last = {"response": "lo", "logprobs": [2], "done": True, "context": [7]}
    assert body(lines(first, last)) == {
        "response": "Hello", "thinking": "hm", "logprobs": [1, 2], "done": True, "context": [7],
    }  # fmt: skip


def test_one_object_stays_byte_for_byte():
    answer = b' {"done" : true, "response":"x", "n": 1.0} \n'
    assert assemble(answer).body == answer.strip()


def test_figures_are_the_targets_own_and_what_is_no_count_is_none():
    metrics = assemble(lines({**LAST, "load_duration": "long", "eval_duration": True})).metrics(0.5, 2.0)
    assert (metrics.done_reason, metrics.prompt_tokens, metrics.generated_tokens) == ("stop", 3, 5)
    assert (metrics.total_duration, metrics.load_duration, metrics.eval_duration) == (9, None, None)
    assert (metrics.first_token_s, metrics.run_s) == (0.5, 2.0)


@pytest.mark.parametrize(("error", "said"), [("out of memory", "out of memory"), ({"code": 1}, '{"code":1}')])
def test_error_in_the_middle_is_the_targets_own_word(error, said):
    assert assemble(lines(chat("Hel"), {"error": error})).error == said


@pytest.mark.parametrize(
    "answer",
    [b"", b"\n \n", b'{"done":tr', b"[1]\n", lines(chat("Hel")) + b'{"message":{"con'],
    ids=["empty", "blank", "cut off", "no object", "cut off in the second line"],
)
def test_answer_that_is_not_whole_is_a_broken_connection(answer):
    with pytest.raises(TargetBroke):
        assemble(answer)


def test_answer_that_ollama_ended_for_repeating_itself_is_whole():
    assert body(lines(chat("again "), chat("again ")))["message"]["content"] == "again again "


@pytest.mark.parametrize("count", [-20, True, 1.0, "5", None, 2**63, 10**30])
def test_what_is_no_count_is_none(count):
    answer = json.dumps({**LAST, "eval_count": count}).encode()
    assert assemble(answer).metrics(0.5, 2.0).generated_tokens is None


def test_largest_count_that_go_has_is_one():
    assert assemble(lines({**LAST, "eval_count": 2**63 - 1})).metrics(0.5, 2.0).generated_tokens == 2**63 - 1
