"""Who is let in, what is passed on of them, and what is too much."""

from __future__ import annotations

import asyncio
import hashlib
import inspect

import httpx
import pytest

from foreman.api import doors
from foreman.api.errors import STATUSES, status_of
from foreman.api.server import ROUTES
from foreman.errors import ForemanError
from tests.fakes.ollama import FakeOllama
from tests.kit import running

TOKEN = "s3cret-token"
RIGHT = {"authorization": b"Bearer " + TOKEN.encode()}
CHAT = {"model": "a", "messages": [{"role": "user", "content": "hi"}], "stream": False}
EMBED = {"model": "embedder", "input": "x"}
OPEN = {(method, path) for method in ("GET", "HEAD") for path in ("/", "/healthz", "/dashboard")}
FILES = "/dashboard/<name:path>"


async def test_every_route_but_the_probes_needs_the_token(tmp_path):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url, token=TOKEN) as foreman:
        for method, path in {(method, route.path) for route in ROUTES for method in route.methods}:
            answer = await foreman.client.request(method, path)
            if path == FILES:  # none is called so, and the files that there are hold no data
                assert answer.status_code == 404
                continue
            if (method, path) in OPEN:
                assert answer.status_code == 200, (method, path)
                continue
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer"), (method, path)
            assert method == "HEAD" or "Authorization: Bearer" in answer.json()["error"]
        assert {call.method for call in fake.calls} <= {"GET"}  # foreman's own polls


async def test_no_answer_but_the_dashboard_s_can_be_a_page(tmp_path):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url) as foreman:
        fake.inject("status", status=200, body="<script>alert(1)</script>", on="/api/show")
        job_id = await foreman.submit()
        await foreman.until_finished(job_id)
        own = [f"/jobs/{job_id}/artifacts/{name}" for name in ("request", "completion", "stream")]
        asked = [("GET", path) for path in ("/", "/jobs", f"/jobs/{job_id}/stream", "/events", "/nope", *own)]
        asked += [("POST", "/api/chat"), ("POST", "/api/show"), ("POST", "/queue"), ("GET", "/api/tags/")]
        for method, path in asked:
            answer = await foreman.client.request(method, path, json=CHAT if method == "POST" else None)
            assert answer.headers["x-content-type-options"] == "nosniff", (method, path)
            assert answer.headers["content-security-policy"] == doors.NO_PAGE["content-security-policy"], (method, path)


async def test_unknown_paths_need_the_token_too(tmp_path):
    async with FakeOllama() as fake, running(tmp_path, fake.url, token=TOKEN) as foreman:
        assert (await foreman.client.get("/nope")).status_code == 401
        assert (await foreman.client.get("/nope", headers=RIGHT)).status_code == 404


@pytest.mark.parametrize(
    "given",
    [b"Basic " + TOKEN.encode(), b"Bearer", b"Bearer wrong", TOKEN.encode(), b"Bearer s3cret-", b"\xff"],
    ids=["scheme", "none", "wrong", "bare", "part", "bytes"],
)
async def test_wrong_token_is_refused(tmp_path, given):
    async with FakeOllama() as fake, running(tmp_path, fake.url, token=TOKEN) as foreman:
        answer = await foreman.client.get("/api/tags", headers={"authorization": given})
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER "])
async def test_right_token_opens_whatever_the_case_of_its_scheme(tmp_path, scheme):
    async with FakeOllama() as fake, running(tmp_path, fake.url, token=TOKEN) as foreman:
        given = f"{scheme} {TOKEN}".encode()
        assert (await foreman.client.get("/api/tags", headers={"authorization": given})).status_code == 200


def test_token_is_compared_in_constant_time():
    source = inspect.getsource(doors.check_token)
    assert "hmac.compare_digest(" in source
    assert "== token" not in source


async def test_stranger_is_turned_away_before_the_body_is_read(tmp_path):
    async with FakeOllama() as fake, running(tmp_path, fake.url, token=TOKEN) as foreman:
        head = b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n"
        reader, writer = await asyncio.open_connection("127.0.0.1", int(foreman.url.rpartition(":")[2]))
        writer.write(head)
        assert (await reader.readline()).split(b" ")[1] == b"401"
        writer.close()


@pytest.mark.parametrize("path", ["/api/chat", "/api/embed", "/api/show"])
async def test_callers_authorization_stays_here_and_the_targets_token_is_sent(tmp_path, path):
    async with (
        FakeOllama(["a", "embedder"]) as fake,
        running(tmp_path, fake.url, token=TOKEN, ollama_token="theirs") as foreman,
    ):
        headers = RIGHT | {"user-agent": "GitHubCopilotChat/1.0", "cookie": "c=1", "x-secret": "s"}
        body = EMBED if path == "/api/embed" else CHAT
        assert (await foreman.client.post(path, json=body, headers=headers)).status_code == 200
        assert {call.header("authorization") for call in fake.calls} == {"Bearer theirs"}
        call = next(call for call in reversed(fake.calls) if call.path == path)
        assert call.header("user-agent") == "GitHubCopilotChat/1.0"
        assert call.header("host") == f"localhost:{fake.port}"
        for kept in ("cookie", "x-secret"):
            assert call.header(kept) is None


async def test_no_authorization_is_sent_to_a_target_without_a_token(tmp_path):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url) as foreman:
        await foreman.client.post("/api/chat", json=CHAT, headers={"authorization": "Bearer callers-own"})
        assert {call.header("authorization") for call in fake.calls} == {None}


async def test_host_header_for_the_target_can_be_set(tmp_path):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url, ollama_host_header="box.local") as foreman:
        await foreman.chat()
        assert {call.header("host") for call in fake.calls} == {"box.local"}


async def in_pieces(size: int):
    """A body without a length."""
    for _ in range(0, size, 512):
        yield b" " * 512


@pytest.mark.parametrize("path", ["/api/chat", "/api/generate", "/api/embed", "/api/show", "/jobs"])
async def test_body_that_is_too_large_is_refused(tmp_path, path):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url, max_body="4KiB") as foreman:
        for body in (b" " * 5000, in_pieces(5000)):
            answer = await foreman.client.post(path, content=body)
            assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
            assert "4,096 bytes (FOREMAN_MAX_BODY)" in answer.json()["error"]
        assert path not in [call.path for call in fake.calls]


async def test_body_that_just_fits_is_taken(tmp_path):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url, max_body="4KiB") as foreman:
        answer = await foreman.client.post("/api/chat", content=b'{"model":"absent"}'.ljust(4096))
        assert answer.status_code == 404
        answer = await foreman.client.post("/api/chat", content=b'{"model":"absent"}'.ljust(4097))
        assert answer.status_code == 413


async def test_declared_length_is_judged_before_anything_is_read(tmp_path):
    async with FakeOllama() as fake, running(tmp_path, fake.url, max_body="4KiB") as foreman:
        head = b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999999999\r\n\r\n"
        reader, writer = await asyncio.open_connection("127.0.0.1", int(foreman.url.rpartition(":")[2]))
        writer.write(head)
        async with asyncio.timeout(5):
            assert (await reader.read()).startswith(b"HTTP/1.1 413 ")
        writer.close()


async def test_blob_may_be_larger_than_a_body_that_is_held(tmp_path):
    content = b"a" * 100_000
    path = f"/api/blobs/sha256:{hashlib.sha256(content).hexdigest()}"
    async with FakeOllama() as fake, running(tmp_path, fake.url, max_body="1KiB", management="on") as foreman:
        assert (await foreman.client.post(path, content=content)).status_code == 201
        assert (await foreman.client.head(path)).status_code == 200
        assert fake.calls_of(path)[0].body == content


async def test_full_queue_is_refused_in_ollamas_words(tmp_path):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url, max_queue="3") as foreman:
        with fake.hold("a") as gate:
            calls = [asyncio.create_task(foreman.chat())]
            await gate.reached()
            await foreman.until(lambda: len(foreman.foreman.ledger.work.running) == 1)
            jobs = [await foreman.submit() for _ in range(3)]
            refused = await foreman.chat()
            also = await foreman.client.post("/jobs", json=CHAT)
        for answer in (refused, also):
            assert answer.status_code == 503
            assert answer.json()["error"] == "server busy, please try again.  maximum pending requests exceeded"
            assert int(answer.headers["retry-after"]) >= 1
        await foreman.until_finished(*jobs)
        assert [answer.status_code for answer in await asyncio.gather(*calls)] == [200]


async def test_many_strangers_do_not_fill_the_queue(tmp_path):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url, token=TOKEN, max_queue="1") as foreman:
        async with httpx.AsyncClient(base_url=foreman.url) as client:
            answers = await asyncio.gather(*(client.post("/api/chat", json=CHAT) for _ in range(20)))
        assert {answer.status_code for answer in answers} == {401}
        assert (await foreman.client.post("/api/chat", json=CHAT, headers=RIGHT)).status_code == 200


def test_every_error_has_a_status():
    def leaves(error: type[ForemanError]) -> list[type[ForemanError]]:
        return [error, *(leaf for child in error.__subclasses__() for leaf in leaves(child))]

    assert {status_of(error) in range(400, 600) for error in leaves(ForemanError)} == {True}
    assert set(STATUSES) <= set(leaves(ForemanError))


async def test_fault_of_foremans_own_is_a_500_that_tells_nothing(tmp_path):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url) as foreman:
        await foreman.foreman.inventory.refresh()
        foreman.foreman.inventory.listing = None
        answer = await foreman.client.get("/api/tags")
        assert (answer.status_code, answer.json()["code"]) == (500, "internal")
        assert "NoneType" not in answer.text
