"""What `POST /jobs` makes of a body, without a server."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreman.api.submissions import LONGEST_SECRET, MOST_JOBS, TOLD, read_submissions
from foreman.errors import RequestInvalid, TooLarge
from foreman.events.types import Endpoint, JobClass, Webhook

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


@pytest.mark.parametrize("member", ["webhook_events", "messages"])
def test_thousand_faults_make_a_short_message(member):
    with pytest.raises(RequestInvalid, match="and 990 more") as refused:
        read({"model": "a", member: [7] * 1_000})
    assert len(str(refused.value)) < 1_000


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


# Webhooks

URL = "https://hooks.example/foreman?for=me"
#: What no message may quote.
SECRET = "s3cret-that-nobody-may-read"


def told(**members):
    """The spec and the stored request of a job with these members."""
    ((spec, generation),), _ = read({"model": "a", "prompt": "x", **members})
    return spec, json.loads(generation.body)


def refusal(**members) -> str:
    with pytest.raises(RequestInvalid) as refused:
        told(**members)
    return str(refused.value)


def test_webhook_is_foremans_and_does_not_reach_the_target():
    spec, stored = told(state_webhook_url=URL, webhook_events=["working"], webhook_secret=SECRET)
    assert stored == {"model": "a", "prompt": "x"}
    assert spec.webhook == Webhook(url=URL, events=("working",))
    assert spec.webhook_secret == SECRET


def test_null_is_the_same_as_absent():
    spec, stored = told(state_webhook_url=None, webhook_events=None, webhook_secret=None)
    assert (spec.webhook, spec.webhook_secret, stored) == (None, None, {"model": "a", "prompt": "x"})
    assert told(state_webhook_url=URL, webhook_events=None)[0].webhook == Webhook(url=URL)


def test_events_are_taken_once_each_in_their_order_and_may_be_none_but_the_last():
    assert told(state_webhook_url=URL, webhook_events=["done", "queued", "done"])[0].webhook.events == (
        "done",
        "queued",
    )
    assert told(state_webhook_url=URL, webhook_events=[])[0].webhook.events == ()
    assert told(state_webhook_url=URL, webhook_events=list(TOLD))[0].webhook.events == TOLD


@pytest.mark.parametrize("secret", [SECRET, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLSwx", f"{SECRET}, other"])
def test_secret_is_any_that_foreman_can_sign_with(secret):
    assert told(state_webhook_url=URL, webhook_secret=secret)[0].webhook_secret == secret


@pytest.mark.parametrize(
    ("url", "named"),
    [
        (7, "valid string"), (["http://x/"], "valid string"), ("", "must begin with http:// or https://"),
        ("ftp://hooks.example/", "must begin with http:// or https://"), ("hooks.example/x", "must begin with http"),
        (f"https://me:{SECRET}@hooks.example/", "no user or password"), ("http://@x/", "no user or password"),
        ("http://bücher.example/", "only visible ASCII"), ("http://hooks.example/a b", "only visible ASCII"),
        ("http://hooks.example/#top", "no fragment"), ("http://hooks.example\\@127.0.0.1/", "no backslash"),
        ("http:///x", "must name a host"), ("http://hooks.example:99999/", "port must be a number from 1 to 65535"),
        ("http://[::1/", "host"), (f"http://hooks.example/{'x' * 3_000}", "not be longer than 2,048"),
    ],
)  # fmt: skip
def test_url_that_nobody_could_be_told_at_is_refused(url, named):
    message = refusal(state_webhook_url=url)
    assert message.startswith("'state_webhook_url': ")
    assert named in message
    assert SECRET not in message
    assert len(message) < 200


@pytest.mark.parametrize(
    ("events", "named"),
    [
        (["done", "ready"], "'ready' is no job state; there are queued, loading, working, done, failed, cancelled"),
        (["new"], "'new' is no job state"), (["expired"], "'expired' is no job state"),
        (["Done", "x"], "'Done', 'x' is no job state"), (["y" * 10_000], f"'{'y' * 50}' is no job state"),
        ("done", "valid list"), ({"done": 1}, "valid list"),
        ([1], "valid string"),
    ],
)  # fmt: skip
def test_events_that_are_no_states_are_refused_with_those_there_are(events, named):
    message = refusal(state_webhook_url=URL, webhook_events=events)
    assert message.startswith("'webhook_events")
    assert named in message


@pytest.mark.parametrize(
    ("secret", "named"),
    [
        ("", "must not be empty"), (f"{SECRET},,", "must not be empty"), (f"{SECRET} and more", "no blanks"),
        (f"{SECRET}é", "only visible ASCII"), (f"whsec_{SECRET}!", "base64 of 24 to 64 bytes"),
        ("whsec_c2hvcnQ=", "base64 of 24 to 64 bytes"), (SECRET * 100, f"at most {LONGEST_SECRET}"),
        ([SECRET], "valid string"), ({SECRET: 1}, "valid string"), (7, "valid string"),
    ],
)  # fmt: skip
def test_secret_that_cannot_sign_is_refused_and_never_quoted(secret, named):
    message = refusal(state_webhook_url=URL, webhook_secret=secret)
    assert message.startswith("'webhook_secret': ")
    assert named in message
    assert SECRET not in message


@pytest.mark.parametrize(
    "members",
    [{"webhook_events": ["done"]}, {"webhook_secret": SECRET}, {"webhook_events": [], "state_webhook_url": None}],
)
def test_what_is_about_a_webhook_needs_one(members):
    message = refusal(**members)
    assert message == "webhook_events and webhook_secret need a 'state_webhook_url'"


@pytest.mark.parametrize("name", ["State_Webhook_URL", "WEBHOOK_SECRET", "webhook_Events"])
def test_member_in_capitals_is_not_passed_over(name):
    assert refusal(**{name: SECRET}) == f"members are written in lower case: {name!r}"


@pytest.mark.parametrize(
    "name",
    [*("webhook", "webhook_url", "web_hook_url", "state_webhook", "WebhookUrl"),
     *("Callback", "callback_url", "my-callbacks", "x" * 100_000 + "webhook")],
    ids=lambda name: name[:20],
)  # fmt: skip
@pytest.mark.parametrize("form", [dict, lambda job: [job], lambda job: [{"model": "a", "prompt": "y"}, job]])
def test_member_that_was_meant_for_a_webhook_is_not_passed_over(name, form):
    with pytest.raises(RequestInvalid) as refused:
        read(form({"model": "a", "prompt": "x", "state_webhook_url": URL, name: URL}))
    message = str(refused.value)
    assert f"there is no member '{name[:50]}" in message
    assert message.endswith("; for webhooks: state_webhook_url, webhook_events, webhook_secret")
    assert len(message) < 300


@pytest.mark.parametrize("name", ["hook", "call_back", "web hook", "options", "format"])
def test_member_that_looks_like_no_webhook_is_the_targets(name):
    ((_, generation),), _ = read({"model": "a", "prompt": "x", name: {}})
    assert name in json.loads(generation.body)


@pytest.mark.parametrize(
    ("members", "named"),
    [
        ({"state_webhook_url": "ftp://x/"}, "job 2: 'state_webhook_url': it must begin"),
        ({"state_webhook_url": URL, "webhook_secret": f"whsec_{SECRET}"}, "job 2: 'webhook_secret': what follows"),
        ({"webhook_secret": SECRET}, "job 2: webhook_events and webhook_secret need"),
    ],
)
def test_fault_of_one_webhook_among_many_names_its_job(members, named):
    jobs = [{"model": "a", "prompt": "x"}, {"model": "a", "prompt": "x", **members}]
    with pytest.raises(RequestInvalid) as refused:
        read(jobs)
    assert named in str(refused.value)
    assert SECRET not in str(refused.value)


def test_line_with_a_webhook_is_written_anew_without_it_and_its_neighbour_is_not():
    lines = [
        b'{"model":"a", "prompt":"x", "state_webhook_url":"http://hooks.example/"}',
        b'{"model":"a", "prompt":"y"}',
    ]
    jobs, _ = read_submissions(b"\n".join(lines), "application/x-ndjson")
    assert [generation.body for _, generation in jobs] == [b'{"model":"a","prompt":"x"}', lines[1]]


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
