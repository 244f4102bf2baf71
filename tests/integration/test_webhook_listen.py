"""`foreman webhook-listen` as a program of its own: what it prints of what is sent to it, its answers, its end."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from foreman.cli import main
from foreman.signing import Signer
from tests.kit import PATIENCE_S

STANDARD = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
#: Clears the screen, in the two ways that terminals know to begin a sequence, and turns text round.
NASTY = "qwen\x1b[2J\x9b2J\x7f\u202e"


def body(version: int = 1, state: str = "queued", **members: Any) -> dict[str, Any]:
    absent = dict.fromkeys(["previous_state", "result", "artifacts", "error"])
    return {"job_id": "01JA", "state": state, "model": "a:latest", "attempt": 0, "version": version} | absent | members


class Listener:
    """The program, started; its lines as they come."""

    def __init__(self, process: asyncio.subprocess.Process, hello: list[str], client: httpx.AsyncClient) -> None:
        self.process = process
        self.hello = hello
        self.client = client

    async def send(self, payload: dict[str, Any] | bytes, secret: str = "") -> httpx.Response:
        """Post it as foreman would, now."""
        content = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        name = "x-1" if isinstance(payload, bytes) else f"{payload['job_id']}-{payload['version']}"
        signer = Signer.of(secret) if secret else Signer()
        return await self.client.post("/", content=content, headers=signer.headers(name, int(time.time()), content))

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """A bare connection to it, closed in good order."""
        url = self.client.base_url
        async with asyncio.timeout(PATIENCE_S):
            reader, writer = await asyncio.open_connection(url.host, url.port)
            try:
                yield reader, writer
            finally:
                writer.close()
                await writer.wait_closed()

    async def line(self) -> str:
        """The next line of stdout."""
        async with asyncio.timeout(PATIENCE_S):
            return (await self.process.stdout.readline()).decode().removesuffix("\n")

    async def told(self, payload: dict[str, Any] | bytes, secret: str = "") -> str:
        """Send it; the line it gives, without the time."""
        await self.send(payload, secret)
        found, text = re.fullmatch(r"(\d\d:\d\d:\d\d\.\d{3})  (.*)", await self.line()).groups()
        assert found
        return text

    async def end(self) -> tuple[int, str, str]:
        """Exit status, and what is left of stdout and stderr."""
        async with asyncio.timeout(PATIENCE_S):
            out, err = await self.process.communicate()
        return self.process.returncode, (out or b"").decode(), err.decode()

    async def interrupt(self) -> tuple[int, str, str]:
        """Ctrl-C."""
        self.process.send_signal(signal.SIGINT)
        return await self.end()


@asynccontextmanager
async def listening(*arguments: str, stdout: int = asyncio.subprocess.PIPE, **environ: str) -> AsyncIterator[Listener]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "foreman", "webhook-listen", "--addr", "127.0.0.1:0", *arguments),
        env={name: value for name, value in os.environ.items() if name != "NO_COLOR"} | environ,
        stdout=stdout,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(PATIENCE_S):
            hello = [(await process.stderr.readline()).decode().rstrip() for _ in range(2)]
        url = re.search(r"http://127\.0\.0\.1:\d+/", hello[0])[0]
        async with httpx.AsyncClient(base_url=url, timeout=PATIENCE_S, trust_env=False) as client:
            yield Listener(process, hello, client)
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def test_each_delivery_is_one_line_and_the_end_a_summary():
    async with listening(FOREMAN_WEBHOOK_SECRET=STANDARD) as listener:
        url = str(listener.client.base_url)
        assert listener.hello[0] == f"foreman: receiving webhooks at {url} (signatures are checked); Ctrl-C ends it"
        assert listener.hello[1] == f'  "state_webhook_url": "{url}"'
        told = listener.told
        assert await told(body(1), STANDARD) == "01JA  → queued  a:latest  attempt 0  signature ok"
        working = body(3, "working", previous_state="loading", attempt=1)
        assert await told(working, STANDARD) == (
            "01JA  loading → working  a:latest  attempt 1  signature ok  gap: 2 not seen (not asked for, or given up)"
        )
        assert (await told(working, STANDARD)).endswith("signature ok  repeat")
        assert (await told(body(2), STANDARD)).endswith("signature ok  out of order")
        assert (await told(body(7), STANDARD)).endswith("gap: 4\N{EN DASH}6 not seen (not asked for, or given up)")
        wrong = "signature WRONG: webhook-signature does not fit id, time, body and secret"
        assert (await told(body(8), STANDARD[:-1] + "x")).endswith(wrong)
        assert (await told(body(9))).endswith("not signed")
        summary = "foreman: deliveries 7, repeats 1, gaps 2, wrong signatures 1, not signed 1\n"
        assert await listener.interrupt() == (0, "", summary)


async def test_without_a_secret_no_signature_is_judged():
    async with listening() as listener:
        assert "no secret, so signatures are not checked" in listener.hello[0]
        assert (await listener.told(body(), STANDARD)).endswith("signed, no secret given")
        assert await listener.interrupt() == (0, "", "foreman: deliveries 1, repeats 0, gaps 0\n")


async def test_a_secret_of_a_list_on_the_command_line_will_do():
    async with listening("--secret", f"{STANDARD}, hush", FOREMAN_WEBHOOK_SECRET="another") as listener:
        assert (await listener.told(body(1), "hush")).endswith("signature ok")
        assert (await listener.told(body(2), STANDARD)).endswith("signature ok")


async def test_a_body_that_is_no_webhook_is_printed_as_such_and_answered_400():
    async with listening() as listener:
        answer = await listener.send(b"hello\x1b[2J")
        assert (answer.status_code, answer.text) == (400, "not a webhook of foreman's: the body is not JSON\n")
        assert (await listener.line())[14:] == "not a webhook of foreman's, refused: the body is not JSON"
        assert (await listener.send(b'{"job_id":"A"}')).status_code == 400
        assert (await listener.line()).endswith("refused: state: Field required")
        assert (await listener.interrupt())[2].endswith("other requests 2\n")


async def test_no_control_character_from_outside_reaches_the_terminal():
    async with listening("--body") as listener:
        await listener.send(body(model=NASTY, error=NASTY))
        _, out, _ = await listener.interrupt()
    assert out.count("qwen") == 3
    assert [letter for letter in out if not letter.isprintable() and letter != "\n"] == []


async def test_json_is_one_ascii_object_a_line():
    async with listening("--json", "--body", "--secret", "hush") as listener:
        sent = body(3, model=NASTY, result={"text": "grüß\ndich\u2028"})
        await listener.send(sent, "hush")
        line = await listener.line()
        assert line.isascii()
        assert line.isprintable()
        found = json.loads(line)
        assert found["payload"] == sent
        assert (found["job_id"], found["version"], found["model"]) == ("01JA", 3, NASTY)
        verdict = {name: found[name] for name in ("signature", "signature_fault", "repeat", "gap", "out_of_order")}
        expected = {"signature": "ok", "signature_fault": None, "repeat": False, "gap": [1, 2], "out_of_order": False}
        assert verdict == expected
        await listener.send(b"{")
        assert json.loads(await listener.line())["refused"] == "the body is not JSON"


async def test_the_body_is_printed_indented():
    async with listening("--body") as listener:
        await listener.send(body(result={"text": "grüß dich"}))
        _, out, _ = await listener.interrupt()
    assert '    {\n      "job_id": "01JA",\n' in out
    assert '"text": "grüß dich"' in out


async def test_it_answers_as_it_was_told_and_names_the_repeats():
    async with listening("--status", "503", "--retry-after", "7") as listener:
        answers = [await listener.send(body()) for _ in range(2)]
        assert [(answer.status_code, answer.headers["retry-after"]) for answer in answers] == [(503, "7")] * 2
        assert "repeat" not in await listener.line()
        assert (await listener.line()).endswith("repeat")


async def test_an_answer_can_be_late_while_its_line_is_not():
    async with listening("--delay", "1h") as listener:
        sending = asyncio.create_task(listener.send(body()))
        assert "queued" in await listener.line()
        assert not sending.done()
        status, _, words = await listener.interrupt()
        assert (status, words) == (0, "foreman: deliveries 1, repeats 0, gaps 0\n")
        with pytest.raises(httpx.RemoteProtocolError):
            await sending


async def test_it_ends_by_itself_after_so_many_deliveries():
    async with listening("--count", "2", "--delay", "20ms") as listener:
        assert (await listener.send(b"noise")).status_code == 400
        answers = await asyncio.gather(*(listener.send(body(version)) for version in (1, 2)))
        assert [answer.status_code for answer in answers] == [200, 200]
        status, out, _ = await listener.end()
        assert (status, out.count("queued")) == (0, 2)


async def test_a_large_body_is_taken_and_a_larger_one_is_not():
    async with listening() as listener:
        assert (await listener.send(body(result="x" * (63 << 20)))).status_code == 200
        assert "queued" in await listener.line()
        answer = await listener.send(b" " * ((64 << 20) + 1))
        assert answer.status_code == 413
        assert (await listener.line()).endswith("refused: more than 64 MiB")


@pytest.mark.parametrize(
    "start", [b"Content-Length: 100\r\n\r\n{", b"Transfer-Encoding: chunked\r\n\r\n5\r\nab"], ids=["sized", "chunked"]
)
async def test_a_sender_that_breaks_off_is_no_trouble(start):
    async with listening() as listener:
        async with listener.connection() as (_, writer):
            writer.write(b"POST / HTTP/1.1\r\nHost: x\r\n" + start)
        assert (await listener.line()).endswith("refused: the sender broke off")
        assert "queued" in await listener.told(body())
        assert (await listener.interrupt())[2] == "foreman: deliveries 1, repeats 0, gaps 0, other requests 1\n"


@pytest.mark.parametrize(
    "nonsense",
    [b"\x16\x03\x01 hello\r\n\r\n", b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"],
    ids=["TLS", "chunk size"],
)
async def test_what_is_not_http_leaves_no_traceback(nonsense):
    async with listening() as listener:
        async with listener.connection() as (reader, writer):
            writer.write(nonsense)
            assert b" 400 " in await reader.readline()
        assert "queued" in await listener.told(body())
        assert await listener.interrupt() == (0, "", "foreman: deliveries 1, repeats 0, gaps 0\n")


async def test_a_body_is_judged_as_it_was_sent():
    async with listening(FOREMAN_WEBHOOK_SECRET="hush") as listener:
        listener.client.headers["Content-Encoding"] = "gzip"
        assert (await listener.told(body(), "hush")).endswith("signature ok")


async def test_only_posts_are_webhooks_and_any_path_takes_them():
    async with listening() as listener:
        assert (await listener.client.get("/")).status_code == 405
        assert (await listener.client.post("/hooks/a?b=c", json=body())).status_code == 200


@pytest.mark.parametrize("no_colour", ["", "1"])
async def test_colours_are_for_terminals_that_want_them(no_colour):
    master, slave = os.openpty()
    try:
        async with listening(stdout=slave, TERM="xterm", NO_COLOR=no_colour) as listener:
            await listener.send(body())
            await listener.interrupt()
        shown = os.read(master, 65_536).decode()
    finally:
        os.close(master)
        os.close(slave)
    assert "01JA" in shown
    assert ("\x1b[" in shown) is (no_colour == "")


async def test_it_ends_quietly_when_its_reader_has_gone():
    read_end, write_end = os.pipe()
    try:
        async with listening(stdout=write_end) as listener:
            os.close(read_end)
            await listener.send(body())
            status, _, words = await listener.end()
    finally:
        os.close(write_end)
    assert (status, words) == (1, "foreman: deliveries 1, repeats 0, gaps 0\n")


async def test_a_taken_port_is_one_clear_line():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "foreman", "webhook-listen", "--addr", place), stderr=asyncio.subprocess.PIPE
        )
        async with asyncio.timeout(PATIENCE_S):
            _, words = await process.communicate()
    assert process.returncode == 1
    assert words.decode().startswith(f"foreman: cannot listen on {place}: ")
    assert words.count(b"\n") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--addr", "9000"], "the port needs a colon"),
        (["--addr", ""], "the port needs a colon"),
        (["--delay", "-1s"], "must not be negative"),
        (["--delay", "soon"], "not a duration"),
        (["--secret", "whsec_hidden"], "must be base64 of 24 to 64 bytes"),
        (["--status", "99"], "99 is not in the range"),
        (["--retry-after", "3"], "goes with --status"),
    ],
)
def test_a_wrong_option_is_named_and_no_secret_shown(arguments, words):
    result = CliRunner().invoke(main, ["webhook-listen", *arguments])
    assert (result.exit_code, words in " ".join(result.output.split())) == (2, True)
    assert "whsec_hidden" not in result.output


def test_help_does_not_show_the_secret_of_the_environment():
    result = CliRunner().invoke(main, ["webhook-listen", "--help"], env={"FOREMAN_WEBHOOK_SECRET": "hush-hush"})
    assert "FOREMAN_WEBHOOK_SECRET" in result.output
    assert "hush-hush" not in result.output
