"""The same requests to a target directly and through foreman: what a client can see is equal, but for `EXCEPTIONS`.

The requests are those recorded from a real Ollama, so each answer is held to the recording as well.
"""

from __future__ import annotations

import itertools
from typing import Any

import httpx
import orjson
import pytest

from tests.fakes.ollama import FakeOllama
from tests.fakes.test_fake_ollama import GOLDEN, LAYERS, golden_bytes, normalised, played, raw, recorded_models
from tests.kit import PATIENCE_S, running

#: Where foreman differs on purpose: the beginning of a recorded entry's id, and why.
EXCEPTIONS = {
    "routes/path /metrics": "foreman's own; Ollama has nothing there",
    "v1/": "the OpenAI and Anthropic routes are not offered yet",
    "routes/path /api/tags%2F": "no client escapes a letter or slash of a path; Sanic routes the path as it is written",
    "routes/path /api/%74ags": "the same",
    "hosts/garbage": "a Host that is no host name is refused like any foreign one, 403; Go says 400 on its own",
    "generation/chat long plain": "an answer in one piece has a Content-Length, also where Go's buffer ends",
    "generation/chat plain of 2100": "the same",
}
HEADERS_THAT_MATTER = ("content-type", "allow", "location", "www-authenticate", "vary", "transfer-encoding")
#: Ollama has these, for its cloud and its account there; foreman does not.
NOT_OFFERED = (
    "POST /api/me",
    "POST /api/signout",
    "DELETE /api/user/keys/x",
    "GET /api/experimental/model-recommendations",
    "POST /api/experimental/web_search",
    "POST /api/experimental/web_fetch",
)

#: Members of a request, and what somebody may have put there; those that are right get an answer.
MEMBERS = (
    *("messages", "prompt", "stream", "format", "keep_alive", "options", "think", "tools", "suffix", "raw", "images"),
    *("context", "template", "system", "logprobs", "top_logprobs", "truncate", "shift", "unknown"),
)
ODD_VALUES = (
    *("null", "true", "0", "-1", "1.5", "1e999", "123456789012345678901234567890", "NaN", '"a" x'),
    *('"\\ud800"', '""', '"x"', '"\\u0000"', '"\u00e9"', '"10m"', '"-1"', '"0s"'),
    *("[]", "[1]", '["x"]', "[{}]", "[[[[]]]]", "{}", '{"a":1}', '{"num_ctx":1}', '{"num_ctx":"1"}', '{"num_ctx":4.5}'),
)

Seen = dict[str, Any]


def seen(status: int, headers: list[tuple[str, str]], body: bytes, entry: dict[str, Any]) -> Seen:
    """What a client makes something of, with what varies from run to run made equal."""
    named = [(name.lower(), value) for name, value in headers]
    matter = [item for item in named if item[0] in HEADERS_THAT_MATTER or item[0].startswith("access-control-")]
    return {
        "status": status,
        "headers": sorted(matter),
        # The answer to a HEAD has no body that a length would be needed for.
        "sized": entry["method"] == "HEAD" or any(name == "content-length" for name, _ in named),
        "body": b"" if entry["id"] in LAYERS else normalised(body),
    }


def recorded(entry: dict[str, Any]) -> Seen:
    """The answer of the real Ollama."""
    headers = [(name, value) for name, value in entry["response_headers"]]
    return seen(entry["status"], headers, golden_bytes(entry, "response_body"), entry)


def on_purpose(entry_id: str) -> bool:
    """Is this one of the exceptions?"""
    return entry_id.startswith(tuple(EXCEPTIONS))


@pytest.mark.parametrize("group", played())
async def test_answers_through_foreman_are_those_of_the_target(group, tmp_path):
    different: dict[str, tuple[Seen, Seen, Seen]] = {}
    async with (
        FakeOllama(recorded_models()) as direct,
        FakeOllama(recorded_models()) as target,
        running(tmp_path, target.url, management="on") as foreman,
    ):
        for entry in played()[group]:
            through = seen(*await raw(foreman.url, entry), entry)
            straight = seen(*await raw(direct.url, entry), entry)
            if not through == straight == recorded(entry):
                different[entry["id"]] = (through, straight, recorded(entry))
    assert {entry_id: answers for entry_id, answers in different.items() if not on_purpose(entry_id)} == {}
    excepted = [prefix for prefix in EXCEPTIONS if prefix.startswith(f"{group}/")]
    assert [prefix for prefix in excepted if not any(entry_id.startswith(prefix) for entry_id in different)] == []


@pytest.mark.parametrize("path", ["/api/chat", "/api/generate"])
async def test_odd_request_for_a_model_that_is_there_is_answered_alike(path, tmp_path):
    said = {"messages": '[{"role":"user","content":"one two"}]', "prompt": '"one two"'}
    different = []
    async with (
        FakeOllama(["a"]) as direct,
        FakeOllama(["a"]) as target,
        running(tmp_path, target.url) as foreman,
        httpx.AsyncClient(timeout=PATIENCE_S) as client,
    ):
        for member, value in itertools.product(MEMBERS, ODD_VALUES):
            members = ",".join(f'"{name}":{text}' for name, text in (said | {member: value}).items())
            body = f'{{"model":"a",{members}}}'.encode()
            through, straight = [
                seen(answer.status_code, answer.headers.items(), answer.content, {"id": member, "method": "POST"})
                for answer in [await client.post(f"{url}{path}", content=body) for url in (foreman.url, direct.url)]
            ]
            if through != straight:
                different.append((body, through, straight))
    assert different == []


async def test_openai_routes_are_answered_as_unknown_paths_for_now(tmp_path):
    entries = [entry for entry in GOLDEN["entries"] if entry["id"].startswith("v1/") and entry["method"] != "OPTIONS"]
    async with FakeOllama() as target, running(tmp_path, target.url) as foreman:
        assert {(await raw(foreman.url, entry))[::2] for entry in entries} == {(404, b"404 page not found")}


@pytest.mark.parametrize("route", NOT_OFFERED)
async def test_account_and_cloud_routes_are_unknown_paths(route, tmp_path):
    async with FakeOllama() as target, running(tmp_path, target.url) as foreman:
        answer = await foreman.client.request(*route.split(" "))
        assert (answer.status_code, answer.text) == (404, "404 page not found")
        assert route.split(" ")[1] not in [call.path for call in target.calls]


async def test_target_is_sent_the_callers_body_and_a_keep_alive(tmp_path):
    body = b'{"model":"a",  "messages":[{"role":"user","content":"h\xc3\xa9 \\u003c"}], "stream" : true ,"x":1e5}'
    async with FakeOllama(["a"]) as target, running(tmp_path, target.url, keep_alive="15m") as foreman:
        await foreman.client.post("/api/chat", content=body)
        (call,) = target.calls_of("generation")
        assert call.body == body[:-1] + b',"keep_alive":"15m"}'
        own = orjson.dumps(orjson.loads(body) | {"keep_alive": "1h"})
        await foreman.client.post("/api/chat", content=own)
        assert target.calls_of("generation")[1].body == own


async def test_model_that_was_just_loaded_or_unloaded_shows_at_once(tmp_path):
    async def loaded(client) -> list[str]:
        return [model["name"] for model in (await client.get("/api/ps")).json()["models"]]

    async with FakeOllama(["a", "embedder"]) as target, running(tmp_path, target.url) as foreman:
        for path, body, left in (
            ("/api/generate", {"model": "a"}, ["a:latest"]),
            ("/api/generate", {"model": "a", "keep_alive": 0}, []),
            ("/api/chat", {"model": "a", "messages": [{"role": "user", "content": "x"}]}, ["a:latest"]),
            ("/api/embed", {"model": "embedder", "input": "x"}, ["embedder:latest"]),
        ):
            assert (await foreman.client.post(path, json=body)).status_code == 200
            assert await loaded(foreman.client) == left, (path, body)


async def test_model_changes_show_at_once(tmp_path):
    async with FakeOllama(["a"]) as target, running(tmp_path, target.url, management="on") as foreman:
        await foreman.client.post("/api/copy", json={"source": "a", "destination": "b"})
        listed = (await foreman.client.get("/api/tags")).json()["models"]
        assert {model["name"] for model in listed} == {"a:latest", "b:latest"}


@pytest.mark.parametrize("route", ["POST /api/pull", "POST /api/copy", "DELETE /api/delete", "HEAD /api/blobs/x"])
async def test_model_changes_are_refused_unless_switched_on(route, tmp_path):
    async with FakeOllama() as target, running(tmp_path, target.url) as foreman:
        method, path = route.split(" ")
        answer = await foreman.client.request(method, path, json={})
        assert answer.status_code == 403
        assert method == "HEAD" or "FOREMAN_MANAGEMENT=on" in answer.json()["error"]
        assert path not in [call.path for call in target.calls]
