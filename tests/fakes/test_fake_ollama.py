"""The fake against the real thing: every recorded answer of a real Ollama, then the fake's own behaviour."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import re
import zlib
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.machine import FakeModel
from tests.fakes.ollama import FakeOllama

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "ollama.json").read_text())


def golden_bytes(entry: dict[str, Any], key: str) -> bytes:
    """A body of the recording, however it is stored."""
    if f"{key}_zb64" in entry:
        return zlib.decompress(base64.b64decode(entry[f"{key}_zb64"]))
    if f"{key}_b64" in entry:
        return base64.b64decode(entry[f"{key}_b64"])
    text: str = entry.get(key, "")
    return text.encode()


#: The recorded runner broke these answers; the fake breaks answers only when told to.
BROKEN_ON_PURPOSE = "generation/runner"
#: The HTTP library refuses these before the fake sees them.
REFUSED_BY_PARSER = ("routes/unknown FOO", "hosts/no host")
#: Which layers a model is made of is not played.
LAYERS = ("management/create from",)


def played() -> dict[str, list[dict[str, Any]]]:
    """The recorded entries by group; a group's entries follow one another on one server."""
    left_out = ("v1/", BROKEN_ON_PURPOSE, *REFUSED_BY_PARSER)
    native = [entry for entry in GOLDEN["entries"] if not entry["id"].startswith(left_out)]
    return {name: list(group) for name, group in itertools.groupby(native, lambda entry: entry["id"].partition("/")[0])}


def recorded_models() -> list[FakeModel]:
    """The models of the recorded server."""
    bodies = {entry["id"]: golden_bytes(entry, "response_body") for entry in GOLDEN["entries"]}
    shows = {"smol:latest": "show", "thinker:8b": "show thinker", "embedder:latest": "show embedder"}
    vram = {"smol:latest": 98362432, "thinker:8b": 98362432, "embedder:latest": 864}
    models = []
    for age, listed in enumerate(json.loads(bodies["existing/tags"])["models"]):
        details, name = listed["details"], listed["name"]
        model = FakeModel(
            name,
            digest=listed["digest"],
            size=listed["size"],
            vram=vram[name],
            family=details["family"],
            parameter_size=details["parameter_size"],
            quantization=details["quantization_level"],
            capabilities=tuple(listed["capabilities"]),
            context_length=details["context_length"],
            embedding_length=details["embedding_length"],
            modified_at=f"2026-01-02T03:04:0{9 - age}.678901234Z",
            show=bodies[f"existing/{shows[name]}"],
        )
        models.append(model)
    return models


def normalised(body: bytes) -> bytes:
    """What varies from run to run made equal, as it was in the recording."""
    body = re.sub(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", b"2026-01-02T03:04:05.678901234Z", body)
    body = re.sub(rb'"(total|load|prompt_eval|eval)_duration":\d+', rb'"\1_duration":1', body)
    body = re.sub(rb'"id":"call_[a-z0-9]+"', b'"id":"call_xxxxxxxx"', body)
    body = re.sub(rb"\[-?[\d.]+(,-?[\d.]+)+\](?=[\],}])", b"[numbers]", body)
    # Ollama itself says F32 in one place and unknown in the other for that hand-made file.
    return body.replace(b'"F32"', b'"unknown"')


async def raw(url: str, entry: dict[str, Any]) -> tuple[int, list[tuple[str, str]], bytes]:
    """Send a recorded request as it was, byte by byte; the answer's status, headers and body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
    head = "".join(f"{name}: {value}\r\n" for name, value in entry["headers"].items())
    writer.write(f"{entry['method']} {entry['path']} HTTP/1.1\r\n{head}\r\n".encode() + golden_bytes(entry, "body"))
    try:
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        status = int(lines[0].split(" ")[1])
        headers = [(name, value) for name, _, value in (line.partition(": ") for line in lines[1:] if line)]
        lengths = {name.lower(): value for name, value in headers}
        body = b""
        if entry["method"] == "HEAD" or status == 204:
            pass
        elif lengths.get("transfer-encoding") == "chunked":
            while size := int(await reader.readline(), 16):
                body += (await reader.readexactly(size + 2))[:-2]
        else:
            body = await reader.readexactly(int(lengths.get("content-length", 0)))
        return status, headers, body
    finally:
        writer.close()
        await writer.wait_closed()


def shown(status: int, headers: list[tuple[str, str]], body: bytes, entry: dict[str, Any]) -> dict[str, Any]:
    """What has to be equal: status, headers and their order but for the date and a length that varies, body."""
    length = dict(map(tuple, entry["response_headers"])).get("Content-Length", "VARIES")
    varies = length == "VARIES" or normalised(body) != body
    left_out = {"Date"} | ({"Content-Length"} if varies else set())
    kept = [(name, value) for name, value in headers if name not in left_out]
    return {"status": status, "headers": kept, "body": b"" if entry["id"] in LAYERS else normalised(body)}


@pytest.mark.parametrize("group", played())
async def test_every_recorded_answer_is_given_again(group: str) -> None:
    different = []
    async with FakeOllama(recorded_models()) as fake:
        for entry in played()[group]:
            wanted_headers = [(name, value) for name, value in entry["response_headers"]]
            wanted = shown(entry["status"], wanted_headers, golden_bytes(entry, "response_body"), entry)
            got = shown(*await raw(fake.url, entry), entry)
            if got != wanted:
                different.append((entry["id"], wanted, got))
    assert different == []
