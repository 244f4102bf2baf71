"""Whatever is sent to `/jobs`, it is refused in a clear sentence, nothing is recorded, and foreman goes on."""

from __future__ import annotations

import asyncio
import contextlib
import json

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from foreman.projections import contents
from tests.fakes.ollama import FakeOllama
from tests.kit import PATIENCE_S, Running, running
from tests.shim import plugged

ULID = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
MESSAGES = '"messages":[{"role":"user","content":"hi"}]'


@contextlib.asynccontextmanager
async def unharmed(tmp_path, **overrides):
    """A foreman; at the end of the block nothing may have been added to its log, and it must still do a job."""
    async with FakeOllama(models=["a"]) as fake, running(tmp_path, fake.url, **overrides) as foreman:
        await foreman.until(lambda: foreman.foreman.inventory.up is True)
        before = foreman.foreman.ledger.feed.position
        yield foreman
        assert foreman.foreman.ledger.feed.position == before
        await works(foreman)


async def works(foreman: Running) -> None:
    job_id = await foreman.submit("a", "still there")
    (job,) = await foreman.until_finished(job_id)
    assert job.state == "done"


def assert_refused(answer: httpx.Response, status: int, code: str, *named: str) -> None:
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert answer.headers["content-type"].startswith("application/json")
    assert body["code"] == code
    assert len(body["error"]) < 1_000
    for words in named:
        assert words in body["error"]


def with_webhook(url: object = "http://x/", **members: object) -> bytes:
    return json.dumps({"model": "a", "prompt": "x", "state_webhook_url": url, **members}).encode()


BODIES = {
    "empty": (b"", "empty"),
    "blank": (b" \n ", "empty"),
    "not JSON": (b"model=a", "not valid JSON"),
    "text": (b'"job"', "must be a JSON object"),
    "number": (b"7", "must be a JSON object"),
    "null": (b"null", "must be a JSON object"),
    "array of arrays": (b"[[]]", "job 1: a job must be a JSON object"),
    "cut short": (b'{"model":"a","mess', "not valid JSON"),
    "two values": (b'{"model":"a"} {"model":"a"}', "not valid JSON"),
    "NaN": (b'{"model":"a","options":{"seed":NaN}}', "not valid JSON"),
    "infinity": (b'{"model":"a","options":{"seed":1e999}}', "not valid JSON"),
    "invalid UTF-8": (b'{"model":"a\xff"}', "not valid JSON"),
    "UTF-16": ('{"model":"a"}'.encode("utf-16"), "not valid JSON"),
    "byte order mark": (b'\xef\xbb\xbf{"model":"a"}', "not valid JSON"),
    "half a surrogate pair": (b'{"model":"\\ud800"}', "not valid JSON"),
    "deep nesting": (b'{"model":"a","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "not valid JSON"),
    "nesting past Python": (b'{"model":"a","x":' + b"[" * 1_000 + b"]" * 1_000 + b"}", "nested too deeply"),
    "nesting past what can be written": (
        b'[{"model":"a","prompt":"x","x":' + b"[" * 300 + b"]" * 300 + b"}]", "job 1: the request body is nested too"),
    "key twice": (b'{"model":"a","model":"b","prompt":"x"}', "twice in one object: 'model'"),
    "key twice below": (b'{"model":"a","options":{"seed":1,"seed":2}}', "'seed'"),
    "key twice in two cases": (b'{"model":"a","Model":"b","prompt":"x"}', "lower case: 'Model'"),
    "no model": (b"{" + MESSAGES.encode() + b"}", "'model' is missing"),
    "empty model": (b'{"model":"",' + MESSAGES.encode() + b"}", "'model'"),
    "model of the wrong type": (b'{"model":7}', "'model': Input should be a valid string"),
    "absurdly long model": (b'{"model":"' + b"x" * 10_000 + b'"}', "at most 512"),
    "no messages": (b'{"model":"a"}', "needs either 'messages'"),
    "no message": (b'{"model":"a","messages":[]}', "needs either 'messages'"),
    "messages of the wrong type": (b'{"model":"a","messages":"hi"}', "'messages'"),
    "message of the wrong type": (b'{"model":"a","messages":["hi"]}', "'messages.0'"),
    "options of the wrong type": (b'{"model":"a","prompt":"x","options":[]}', "'options'"),
    "keep_alive of the wrong type": (b'{"model":"a","prompt":"x","keep_alive":true}', "'keep_alive': must be"),
    "stream of the wrong type": (b'{"model":"a","prompt":"x","stream":"no"}', "'stream'"),
    "no prompt": (b'{"model":"a","endpoint":"generate"}', "needs a 'prompt'"),
    "unknown endpoint": (b'{"model":"a","prompt":"x","endpoint":"embed"}', "'endpoint'"),
    "unknown class": (b'{"model":"a","prompt":"x","class":"vip"}', "'class'"),
    "class in capitals": (b'{"model":"a","prompt":"x","Class":"batch"}', "lower case: 'Class'"),
    "webhook to nowhere": (with_webhook("ftp://x/"), "'state_webhook_url': it must begin with http"),
    "webhook of the wrong type": (with_webhook(["http://x/"]), "'state_webhook_url': Input should be a valid string"),
    "webhook with a password": (with_webhook("http://me:pw@x/"), "'state_webhook_url': it must have no user"),
    "webhook without an end": (with_webhook("http://x/" + "x" * 3_000), "must not be longer than 2,048"),
    "webhook of no state": (with_webhook(webhook_events=["ready"]), "'webhook_events': 'ready' is no job state"),
    "webhook misspelt": (with_webhook(webhook_url="http://x/"), "there is no member 'webhook_url'; for webhooks: "),
    "webhook without a place": (with_webhook(None, webhook_events=["done"]), "need a 'state_webhook_url'"),
    "webhook with a bad secret": (with_webhook(webhook_secret="whsec_x"), "'webhook_secret': what follows whsec_ must"),
    "many faults": (b'{"model":7,"class":"vip","stream":3}', "'class'"),
}  # fmt: skip


@pytest.mark.parametrize(("body", "named"), BODIES.values(), ids=BODIES)
async def test_body_that_is_no_job_is_refused(tmp_path, body, named):
    async with unharmed(tmp_path) as foreman:
        assert_refused(await foreman.client.post("/jobs", content=body), 400, "invalid_request", named)


@pytest.mark.parametrize(
    "name", ["b", "a:other", "../../etc/passwd", "a b", "'; DROP TABLE jobs;--", "😀", "%s{x}", "\0"]
)
async def test_unknown_model_is_refused_by_name(tmp_path, name):
    async with unharmed(tmp_path) as foreman:
        answer = await foreman.client.post("/jobs", json={"model": name, "prompt": "x"})
        assert_refused(answer, 404, "model_not_found", f"model '{name}' not found")


async def test_bad_bodies_are_refused_through_the_plugins_client_too(tmp_path, sanic_client):
    async with unharmed(tmp_path) as foreman:
        client = await plugged(sanic_client, foreman.foreman.desk)
        for body, named in BODIES.values():
            assert_refused(await client.post("/jobs", content=body), 400, "invalid_request", named)
        await client.close()


async def test_target_that_was_never_there_is_no_unknown_model(tmp_path):
    async with FakeOllama(models=["a"]) as fake:
        await fake.go_away()
        async with running(tmp_path, fake.url) as foreman:
            answer = await foreman.client.post("/jobs", json={"model": "a", "prompt": "x"})
            assert_refused(answer, 503, "target_unreachable")
            assert "retry-after" in answer.headers


async def test_text_of_ten_megabytes_is_taken_as_it_is(tmp_path):
    async with FakeOllama(models=["a"]) as fake, running(tmp_path, fake.url) as foreman:
        with fake.hold("a", at="load") as load:
            await foreman.submit("a")
            await load.reached()
            job_id = await foreman.submit("a", "x" * 10_000_000)
            kept = await contents.find(foreman.foreman.database.read, job_id, contents.REQUEST)
            assert kept is not None
            assert json.loads(kept.data)["messages"][0]["content"] == "x" * 10_000_000
            assert (await foreman.client.delete(f"/jobs/{job_id}")).json()["state"] == "cancelled"
        await works(foreman)


async def test_answer_of_nine_megabytes_is_kept_and_linked(tmp_path):
    async with FakeOllama(models=["a"]) as fake, running(tmp_path, fake.url) as foreman:
        fake.inject("huge_line", model="a", size=9_000_000)
        job_id = await foreman.submit("a")
        await foreman.until_finished(job_id)
        completion, stream = (await foreman.client.get(f"/jobs/{job_id}")).json()["artifacts"]
        assert "data" not in completion
        for artifact in (completion, stream):
            assert len((await foreman.client.get(artifact["url"])).content) == artifact["size"] > 9_000_000


async def test_body_beyond_the_limit_is_refused(tmp_path):
    async with unharmed(tmp_path, max_body="1KiB") as foreman:
        answer = await foreman.client.post("/jobs", content=b"x" * 1_100)
        assert_refused(answer, 413, "too_large", "1,024 bytes", "FOREMAN_MAX_BODY")


@pytest.mark.parametrize(
    "job_id", ["1", "x" * 26, ULID[:-1], f"{ULID}0", "8" + ULID[1:], "%00", "%ff", "é" * 26, "ß" * 13, "U" * 26]
)
async def test_ulid_that_is_none_is_refused(tmp_path, job_id):
    async with unharmed(tmp_path) as foreman:
        for path in ("", "/events", "/stream", "/artifacts", "/artifacts/completion"):
            assert_refused(await foreman.client.get(f"/jobs/{job_id}{path}"), 400, "invalid_request", "ULID")
        assert_refused(await foreman.client.delete(f"/jobs/{job_id}"), 400, "invalid_request", "ULID")
        assert_refused(await foreman.client.post(f"/jobs/{job_id}/retry"), 400, "invalid_request", "ULID")


async def test_job_id_may_be_in_lower_case(tmp_path):
    async with FakeOllama(models=["a"]) as fake, running(tmp_path, fake.url) as foreman:
        job_id = await foreman.submit("a")
        assert (await foreman.client.get(f"/jobs/{job_id.lower()}")).json()["job_id"] == job_id


@pytest.mark.parametrize("wait", ["-1", "-1s", "61s", "1e9", "99999999999999999999", "", "soon", "NaN", "30", "²", "٣"])
async def test_impossible_wait_is_refused(tmp_path, wait):
    async with FakeOllama(models=["a"]) as fake, running(tmp_path, fake.url) as foreman:
        job_id = await foreman.submit("a")
        await foreman.until_finished(job_id)
        answer = await foreman.client.get(f"/jobs/{job_id}", params={"wait": wait})
        if wait == "30":
            assert answer.status_code == 200
        else:
            assert_refused(answer, 400, "invalid_request", "'wait' must be")


@pytest.mark.parametrize(
    "query", ["offset=-1", "offset=x", "offset=1.5", "offset=", "run=0", "run=-1", "from=3", "offset=1&offset=2"]
)
async def test_impossible_place_in_a_stream_is_refused(tmp_path, query):
    async with FakeOllama(models=["a"]) as fake, running(tmp_path, fake.url) as foreman:
        job_id = await foreman.submit("a")
        answer = await foreman.client.get(f"/jobs/{job_id}/stream?{query}")
        assert_refused(answer, 400, "invalid_request", query.partition("=")[0])


# What a client library would not send


class Raw:
    """An answer read from a socket; `status` 0 if there was none."""

    def __init__(self, received: bytes) -> None:
        head, _, body = received.partition(b"\r\n\r\n")
        self.status = int(head.split()[1]) if head else 0
        self.headers = {name.strip().lower(): value.strip() for name, _, value in
                        (line.partition(":") for line in head.decode().split("\r\n")[1:])}  # fmt: skip
        self.body = json.loads(body) if body.startswith(b"{") else body


async def send(foreman: Running, *lines: str, body: bytes = b"") -> Raw:
    """Write these bytes, say no more, and read until foreman closes."""
    host, port = foreman.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        head = "\r\n".join([*lines, "Host: localhost", "Connection: close", "", ""])
        writer.write(head.encode("utf-8") + body)
        writer.write_eof()
        async with asyncio.timeout(PATIENCE_S):
            return Raw(await reader.read())
    finally:
        writer.close()


@pytest.mark.parametrize(
    ("head", "body"),
    [
        (("Content-Length: 100",), b'{"model":"a",'),
        (("Content-Length: 100",), b'{"model":"a","prompt":"x"}'),
        (("Transfer-Encoding: chunked",), b'1a\r\n{"model":"a","prompt":"x"}\r\n'),
        (("Transfer-Encoding: chunked",), b'zz\r\n{"model":"a","prompt":"x"}\r\n0\r\n\r\n'),
        (("Content-Length: -5",), b'{"model":"a","prompt":"x"}'),
        (("Content-Length: many",), b'{"model":"a","prompt":"x"}'),
    ],
    ids=["text", "whole job", "chunk", "no chunk", "negative length", "no length"],
)
async def test_body_that_is_cut_short_or_misframed_makes_no_job(tmp_path, head, body, capsys):
    async with unharmed(tmp_path) as foreman:
        answer = await send(foreman, "POST /jobs HTTP/1.1", *head, body=body)
        assert answer.status in {0, 400}
    assert "Traceback" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["a/b", "../completion", "completion/", "%2e%2e%2fcompletion", "%00", "'", "nonsense"])
async def test_artifact_that_is_none_is_404(tmp_path, name):
    async with FakeOllama(models=["a"]) as fake, running(tmp_path, fake.url) as foreman:
        job_id = await foreman.submit("a")
        await foreman.until_finished(job_id)
        answer = await send(foreman, f"GET /jobs/{job_id}/artifacts/{name} HTTP/1.1")
        assert (answer.status, answer.body["code"]) == (404, "artifact_not_found")
        assert "completion, stream" in answer.body["error"]


@pytest.mark.parametrize(
    "target",
    [
        "/jobs/%00",
        "/jobs//",
        "/jobs/../healthz",
        f"/jobs/{ULID}/nonsense",
        f"/jobs/{ULID}/events/7",
        "/jobs/" + "x" * 5_000,
    ],
)
async def test_path_that_is_none_is_refused(tmp_path, target):
    async with unharmed(tmp_path) as foreman:
        answer = await send(foreman, f"GET {target} HTTP/1.1")
        assert answer.status in {400, 404, 414}
        assert {"error", "code"} <= answer.body.keys()


WRONG = [("PUT", ""), ("PATCH", ""), ("POST", ""), ("POST", "/events"), ("DELETE", "/stream"), ("GET", "/retry")]


@pytest.mark.parametrize(("method", "path"), WRONG)
async def test_wrong_method_on_a_job_is_refused(tmp_path, method, path):
    async with unharmed(tmp_path) as foreman:
        answer = await foreman.client.request(method, f"/jobs/{ULID}{path}")
        assert answer.status_code in {404, 405}
        assert {"error", "code"} <= answer.json().keys()


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "BREW"])
async def test_wrong_method_on_jobs_is_refused(tmp_path, method):
    async with unharmed(tmp_path) as foreman:
        assert (await foreman.client.request(method, "/jobs")).status_code in {400, 405}


# Anything at all

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
MEMBERS = {
    "model": st.just("a") | JSON,
    "messages": st.just([{"role": "user", "content": "x"}]) | JSON,
    "prompt": st.text(max_size=10) | JSON,
    "options": st.dictionaries(st.sampled_from(["num_ctx", "seed", "num_gpu", "stop"]), JSON) | JSON,
    "keep_alive": st.just("5m") | JSON,
    "class": st.sampled_from(["batch", "interactive"]) | JSON,
    "endpoint": st.sampled_from(["chat", "generate"]) | JSON,
    "stream": JSON,
    "format": JSON,
}
NEAR = {"model": st.sampled_from(["a", "b", ""]), "prompt": st.text(min_size=1, max_size=10)}
FURTHER = {name: member for name, member in MEMBERS.items() if name not in NEAR}
JOB = st.one_of(
    st.fixed_dictionaries(NEAR),
    st.fixed_dictionaries(NEAR, optional=FURTHER),
    st.fixed_dictionaries({}, optional=MEMBERS),
    JSON,
)
BODY = (JOB | st.lists(JOB, max_size=3)).map(lambda value: json.dumps(value).encode()) | st.binary(max_size=50)
CONTENT_TYPES = st.sampled_from(["application/json", "application/x-ndjson", "text/plain", "nonsense", ""])


async def test_no_body_whatever_is_an_error_of_foremans_own(tmp_path):
    async with FakeOllama(models=["a"]) as fake, running(tmp_path, fake.url) as foreman:
        loop = asyncio.get_running_loop()

        @settings(max_examples=250, deadline=None, phases=[Phase.generate, Phase.shrink], derandomize=True,
                  suppress_health_check=list(HealthCheck))  # fmt: skip
        @given(BODY, CONTENT_TYPES)
        def post(body: bytes, content_type: str) -> None:
            request = foreman.client.post("/jobs", content=body, headers={"content-type": content_type})
            answer = asyncio.run_coroutine_threadsafe(request, loop).result(PATIENCE_S)
            seen.add(answer.status_code)
            if answer.status_code != 202:
                assert answer.status_code in {400, 404}, answer.text
                assert answer.json()["error"]
                assert answer.json()["code"] in {"invalid_request", "model_not_found"}

        seen: set[int] = set()
        await asyncio.to_thread(post)
        assert seen == {202, 400, 404}
        await foreman.until(lambda: not foreman.foreman.ledger.work.queue and not foreman.foreman.ledger.work.running)
        await works(foreman)
