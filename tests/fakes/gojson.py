"""JSON as Go's encoding/json reads and writes it, down to its error texts. Knows nothing of Ollama.

The decoder takes the first value of a body and ignores what follows, keeps repeated keys, keeps numbers as they
were written, and never recurses, so that its limit on nesting is Go's and not Python's.
"""

from __future__ import annotations

import json
import re
from typing import Any

import orjson

MAX_DEPTH = 10_000

_SPACE = re.compile(rb"[ \t\r\n]*")
_STRING = re.compile(rb'"(?:[^"\\\x00-\x1f]|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})*')
_NUMBER = re.compile(rb"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_SURROGATE = re.compile("[\ud800-\udfff]")
_HEX = b"0123456789abcdefABCDEF"
_LITERALS = {ord("t"): (b"true", True), ord("f"): (b"false", False), ord("n"): (b"null", None)}
_HTML = {ord("<"): "\\u003c", ord(">"): "\\u003e", ord("&"): "\\u0026", 0x2028: "\\u2028", 0x2029: "\\u2029"}
_SHORT_ESCAPES = {"\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v"}


class GoError(Exception):
    """An error whose text is the one Go gives."""


class EmptyBody(GoError):
    """There was no value at all (Go: io.EOF)."""


class Number(str):
    """A JSON number as it was written."""

    __slots__ = ()


class Pairs(list[tuple[str, Any]]):
    """A JSON object: its members in order, repeated keys kept."""


def encode(value: Any) -> bytes:
    """Compact JSON with `<`, `>`, `&` and the two line separators escaped, as Go's default encoder writes it."""
    text = orjson.dumps(value)
    if any(mark in text for mark in (b"<", b">", b"&", b"\xe2\x80")):
        return text.decode().translate(_HTML).encode()
    return text


def quote(text: str) -> str:
    """Go's `%q`."""
    return '"' + "".join(_quoted(char, '"') for char in text) + '"'


def _quoted(char: str, around: str) -> str:
    if char in (around, "\\"):
        return "\\" + char
    if char in _SHORT_ESCAPES:
        return _SHORT_ESCAPES[char]
    if char.isprintable():
        return char
    code = ord(char)
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def plain(value: Any) -> Any:
    """`value` as ordinary Python data; of repeated keys the last wins."""
    if isinstance(value, Pairs):
        return {key: plain(member) for key, member in value}
    if isinstance(value, list):
        return [plain(member) for member in value]
    return number(value) if isinstance(value, Number) else value


def number(text: Number) -> int | float:
    """The number that `text` writes."""
    return int(text) if re.fullmatch(r"-?\d{1,18}", text) else float(text)


def decode(data: bytes) -> Any:
    """The first JSON value in `data`; GoError as Go's json.Decoder would report it."""
    return _Scanner(data).first()


class _Scanner:
    """One pass over a body with an explicit stack of the open containers."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def first(self) -> Any:
        """The first value."""
        self._skip_space()
        if self.at == len(self.data):
            raise EmptyBody("EOF")
        open_containers: list[tuple[Any, str]] = []  # (container, the key it has in its parent)
        key = ""
        while True:
            container = self._open()
            if container is not None:
                open_containers.append((container, key))
                if len(open_containers) > MAX_DEPTH:
                    raise self._fault(self.at - 1, "exceeded max depth")
                self._skip_space()
                if self._peek() != (ord("}") if isinstance(container, Pairs) else ord("]")):
                    key = self._key() if isinstance(container, Pairs) else ""
                    continue
                self.at += 1
                container, key = open_containers.pop()
                value: Any = container
            else:
                value = self._scalar()
            while True:  # put the finished value into its parent, which may be finished with it
                if not open_containers:
                    return value
                container, _ = open_containers[-1]
                if isinstance(container, Pairs):
                    container.append((key, value))
                else:
                    container.append(value)
                if self._another(container):
                    key = self._key() if isinstance(container, Pairs) else ""
                    break
                value, key = open_containers.pop()

    def _open(self) -> Any:
        self._skip_space()
        char = self._peek()
        if char not in b"{[":
            return None
        self.at += 1
        return Pairs() if char == ord("{") else []

    def _another(self, container: Any) -> bool:
        """Step over what follows a member: True after a comma, False at the end of the container."""
        self._skip_space()
        char = self._peek()
        is_object = isinstance(container, Pairs)
        if char == ord(","):
            self.at += 1
            self._skip_space()
            return True
        if char == (ord("}") if is_object else ord("]")):
            self.at += 1
            return False
        raise self._fault(self.at, "after object key:value pair" if is_object else "after array element")

    def _key(self) -> str:
        if self._peek() != ord('"'):
            raise self._fault(self.at, "looking for beginning of object key string")
        key = self._string()
        self._skip_space()
        if self._peek() != ord(":"):
            raise self._fault(self.at, "after object key")
        self.at += 1
        return key

    def _scalar(self) -> Any:
        char = self._peek()
        if char == ord('"'):
            return self._string()
        if char in b"-0123456789":
            return self._number()
        if char in _LITERALS:
            return self._literal(*_LITERALS[char])
        raise self._fault(self.at, "looking for beginning of value")

    def _literal(self, word: bytes, value: Any) -> Any:
        for offset, expected in enumerate(word):
            self.at += bool(offset)
            if self._peek() != expected:
                raise self._fault(self.at, f"in literal {word.decode()} (expecting {_char(expected)})")
        self.at += 1
        return value

    def _number(self) -> Number:
        match = _NUMBER.match(self.data, self.at)
        if match is None:  # a minus without a digit
            self.at += 1
            raise self._fault(self.at, "in numeric literal")
        self.at = match.end()
        rest = self.data[self.at : self.at + 1]
        if rest == b"." and match.group(1) is None and match.group(2) is None:
            raise self._fault(self.at + 1, "after decimal point in numeric literal")
        if rest in (b"e", b"E") and match.group(2) is None:
            signed = self.data[self.at + 1 : self.at + 2] in (b"+", b"-")
            raise self._fault(self.at + 1 + signed, "in exponent of numeric literal")
        return Number(match.group().decode())

    def _string(self) -> str:
        match = _STRING.match(self.data, self.at)
        if match is None:
            raise AssertionError("called without a quote")
        end = match.end()
        if self.data[end : end + 1] != b'"':
            raise self._fault_in_string(end)
        inner = _text(self.data[self.at + 1 : end])
        self.at = end + 1
        return _SURROGATE.sub("\ufffd", json.loads(f'"{inner}"')) if "\\" in inner else inner

    def _fault_in_string(self, at: int) -> GoError:
        if self.data[at : at + 1] != b"\\":
            return self._fault(at, "in string literal")
        if self.data[at + 1 : at + 2] != b"u":
            return self._fault(at + 1, "in string escape code")
        at += 2
        while self.data[at : at + 1] and self.data[at] in _HEX:
            at += 1
        return self._fault(at, "in \\u hexadecimal character escape")

    def _skip_space(self) -> None:
        match = _SPACE.match(self.data, self.at)
        self.at = match.end() if match else self.at

    def _peek(self) -> int:
        if self.at >= len(self.data):
            raise GoError("unexpected EOF")
        return self.data[self.at]

    def _fault(self, at: int, where: str) -> GoError:
        if at >= len(self.data):
            return GoError("unexpected EOF")
        return GoError(f"invalid character {_char(self.data[at])} {where}")


def _char(byte: int) -> str:
    """A byte as Go shows it: as the rune of that number, in single quotes."""
    return "'" + _quoted(chr(byte), "'") + "'"


def _text(raw: bytes) -> str:
    """UTF-8, each bad byte becoming one replacement character."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return re.sub("[\udc80-\udcff]", "\ufffd", raw.decode(errors="surrogateescape"))
