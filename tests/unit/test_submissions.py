"""What `POST /jobs` makes of a body, without a server."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreman.api.submissions import MOST_JOBS, read_submissions
from foreman.errors import RequestInvalid, TooLarge
from foreman.events.types import Endpoint, JobClass

MESSAGES = [{"role": "user", "content": "x"}]


def read(value, content_type="application/json"):
    return read_submissions(json.dumps(value).encode(), content_type)


@pytest.mark.parametrize(
    ("members", "endpoint"),
    [
        ({"messages": MESSAGES}, Endpoint.CHAT),
        ({"prompt": "x"}, Endpoint.GENERATE),
        ({"messages": MESSAGES, "prompt": "x"}, Endpoint.CHAT),
        ({"messages": MESSAGES, "prompt": "x", "endpoint": "generate"}, Endpoint.GENERATE),
    ],
)
def test_route_is_as_said_or_as_the_members_suggest(members, endpoint):
    ((spec, _),), _ = read({"model": "a", **members})
    assert spec.target is endpoint


def test_single_job_keeps_its_bytes():
    body = b'{"model": "a",\n "prompt":"x", "options":{"seed":100000000000000000000000, "temperature":1.50}}\n'
    ((_, generation),), batch = read_submissions(body, "")
    assert generation.body == body
    assert not batch


def test_line_of_a_batch_keeps_its_bytes():
    lines = [b'{"model":"a","prompt":"x" }', b'  {"prompt" : "y","model":"a"}\r']
    jobs, batch = read_submissions(b"\n\n".join(lines) + b"\n", "application/x-ndjson; charset=utf-8")
    assert [generation.body for _, generation in jobs] == lines
    assert batch


def test_members_of_foremans_own_do_not_reach_the_target():
    ((spec, generation),), _ = read({"class": "interactive", "endpoint": "chat", "model": "a", "messages": MESSAGES})
    assert json.loads(generation.body) == {"model": "a", "messages": MESSAGES}
    assert spec.class_ is JobClass.INTERACTIVE


def test_all_faults_of_a_job_are_named_at_once():
    with pytest.raises(RequestInvalid) as refused:
        read({"model": 7, "class": "vip", "options": "none", "prompt": "x"})
    assert all(name in str(refused.value) for name in ("'model'", "'class'", "'options'"))


def test_thousand_repeated_keys_make_a_short_message():
    body = "{" + ",".join(f'"{"k" * 100}{number}":1,"{"k" * 100}{number}":2' for number in range(1_000)) + "}"
    with pytest.raises(RequestInvalid, match="and 995 more") as refused:
        read_submissions(body.encode(), "")
    assert len(str(refused.value)) < 500


def test_batch_is_counted_before_it_is_read():
    with pytest.raises(TooLarge):
        read([None] * (MOST_JOBS + 1))
    with pytest.raises(TooLarge):
        read_submissions(b"nonsense\n" * (MOST_JOBS + 1), "application/jsonl")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(VALUES)
def test_json_without_a_key_twice_is_never_called_one(value):
    ((_, generation),), _ = read({"model": "a", "prompt": "x", "format": value})
    assert json.loads(generation.body)["format"] == value


@given(st.dictionaries(st.text(max_size=5), VALUES, min_size=1, max_size=4), st.data())
def test_key_that_occurs_twice_is_found_wherever_it_is(members, data):
    key = data.draw(st.sampled_from(sorted(members)))
    twice = json.dumps(members)[:-1] + f", {json.dumps(key)}: 1}}"
    body = f'{{"model":"a","prompt":"x","format":[{twice}]}}'
    with pytest.raises(RequestInvalid, match="twice"):
        read_submissions(body.encode(), "")
