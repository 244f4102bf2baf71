"""One answer on its way out: Go's framing rules, and where a fault cuts in. Decides nothing about content."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any

from aiohttp import web

from tests.fakes import edge, gojson, requests
from tests.fakes.faults import Call, Fault
from tests.fakes.machine import Changes

JSON, JSON_BARE, NDJSON = "application/json; charset=utf-8", "application/json", "application/x-ndjson"
#: Go's server sends a body that fits its buffer with Content-Length, a longer one chunked.
BUFFER = 2048
_WITHIN = ("reset_after", "half_line", "half_line_reset", "garbage", "error_line")


class Broken(Exception):
    """A fault has ended this answer."""


class Refused(Exception):
    """A request that Ollama answers with an error."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Exchange:
    """The answer to one call."""

    def __init__(self, request: web.BaseRequest, call: Call, changes: Changes) -> None:
        self.request, self.call = request, call
        self.response: web.StreamResponse = web.Response(status=500)
        self._changes = changes
        self._streaming = False

    async def send(self, status: int, body: bytes = b"", content_type: str = "", *, chunked: bool = False) -> None:
        """A whole answer."""
        headers = edge.cors(self.request) | ({"Content-Type": content_type} if content_type else {})
        self.response = response = web.Response(status=status, body=body, headers=headers)
        if chunked or len(body) > BUFFER:
            response.enable_chunked_encoding()
        self.call.status = status

    async def json(self, value: Any, status: int = 200, content_type: str = JSON) -> None:
        """A JSON value as the whole answer."""
        await self.send(status, gojson.encode(value), content_type)

    async def error(self, status: int, text: str) -> None:
        """Ollama's error object as the whole answer."""
        await self.json({"error": text}, status)

    async def stream_error(self, status: int, text: str) -> None:
        """An error of a streaming route: with its status while nothing has been sent, else as one more line."""
        line = gojson.encode({"error": text})
        if self._streaming:
            await self._write(line + b"\n")
            await self._end()
        else:
            await self.send(status, line, JSON_BARE, chunked=True)

    async def line(self, value: dict[str, Any]) -> None:
        """One object of a stream."""
        fault = self.call.fault
        if fault is not None and fault.kind in _WITHIN and self.call.lines == fault.after:
            await self._break(fault, value)
        if fault is not None and fault.kind == "huge_line" and self.call.lines == fault.after:
            _inflate(value, fault.size)
        if fault is not None and fault.kind == "no_done" and value.get("done"):
            return
        await self._write(gojson.encode(value) + b"\n")
        self.call.lines += 1
        self._changes.tell()

    async def end(self) -> None:
        """The end of a stream."""
        fault = self.call.fault
        if fault is not None and fault.kind in _WITHIN and self.call.lines <= fault.after:
            await self._break(fault, {})  # the answer was shorter than the fault expected
        await self._end()

    async def whole(self, value: dict[str, Any]) -> None:
        """The one object of an answer that is not streamed."""
        fault = self.call.fault
        if fault is None:
            return await self.json(value)
        if fault.kind == "error_line":
            return await self.error(fault.status, fault.body)
        if fault.kind == "garbage":
            return await self.send(200, fault.body.encode(), JSON)
        if fault.kind == "huge_line":
            _inflate(value, fault.size)
        if fault.kind not in ("reset_after", "half_line", "half_line_reset", "drip"):
            return await self.json(value)
        await self._begin(JSON)
        body = gojson.encode(value)
        await self._write(body if fault.kind == "drip" else body[: len(body) // 2])
        return self.reset() if fault.kind.startswith("reset") or fault.kind.endswith("reset") else await self._end()

    def reset(self) -> None:
        """Break the connection so that the client sees a reset."""
        transport = self.request.transport
        if transport is not None:
            broken: socket.socket = transport.get_extra_info("socket")
            broken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            transport.abort()
        raise Broken

    async def _break(self, fault: Fault, value: dict[str, Any]) -> None:
        line = gojson.encode(value)
        if fault.kind == "error_line":
            await self.stream_error(fault.status, fault.body)
            raise Broken
        await self._begin(NDJSON)
        if fault.kind in ("half_line", "half_line_reset"):
            await self._write(line[: len(line) // 2])
        elif fault.kind == "garbage":
            await self._write(fault.body.encode() + b"\n")
        if fault.kind in ("reset_after", "half_line_reset"):
            self.reset()
        await self._end()
        raise Broken

    async def _begin(self, content_type: str) -> None:
        if self._streaming:
            return
        self._streaming = True
        headers = edge.cors(self.request) | {"Content-Type": content_type}
        self.response = web.StreamResponse(status=200, headers=headers)
        self.response.enable_chunked_encoding()
        self.call.status = 200
        await self.response.prepare(self.request)

    async def _write(self, data: bytes) -> None:
        await self._begin(NDJSON)
        fault = self.call.fault
        if fault is None or fault.kind != "drip":
            await self.response.write(data)
            return
        for start in range(0, len(data), 16):
            await self.response.write(data[start : start + 16])
            await asyncio.sleep(fault.seconds)

    async def _end(self) -> None:
        await self._begin(NDJSON)
        await self.response.write_eof()


def _inflate(value: dict[str, Any], size: int) -> None:
    if "message" in value:
        value["message"]["content"] = "x" * size
    else:
        value["response"] = "x" * size


def read(exchange: Exchange) -> dict[str, Any]:
    """The request body, or a refusal in Go's words."""
    call = exchange.call
    try:
        if call.unreadable is not None:
            raise call.unreadable
        return requests.bind(call.path, call.value)
    except gojson.EmptyBody:
        raise Refused(400, "missing request body") from None
    except gojson.GoError as error:
        raise Refused(400, str(error)) from None
