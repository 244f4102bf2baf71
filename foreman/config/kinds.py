"""How the text of a variable becomes a value, one type per kind of setting. Knows no setting by name.

Each kind is a pydantic type that carries a `Words`: what a person is told is allowed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import durationpy
from pydantic import AllowInfNan, BeforeValidator, SecretStr

from foreman.config.networks import Networks
from foreman.durations import LONGEST_S, duration_s
from foreman.signing import Signer

_SIZE = re.compile(r"([0-9]+)\s*(B|KiB|MiB|GiB)?", re.IGNORECASE)
_SIZE_UNITS = {"": 1, "b": 1, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30}
_HOST_NAME = re.compile(r"[A-Za-z0-9._-]+")
_IPV6 = re.compile(r"[0-9A-Fa-f:.]+(?:%[A-Za-z0-9._-]+)?")
_HOST_HEADER = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]*")
_INTEGER = re.compile(r"[+-]?[0-9]+")

_HIGHEST_PORT = 65_535


@dataclass(frozen=True, slots=True)
class Words:
    """What is allowed, as a noun phrase; what the value counts in; how a bound is written; whether to hide it."""

    allowed: str
    unit: str = ""
    write: Callable[[Any], str] = str
    secret: bool = False


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen. An empty host means every interface, as in Go."""

    host: str
    port: int

    @property
    def bind_hosts(self) -> tuple[str, ...]:
        """What to bind, in order of preference: the first that works is the one.

        Every interface is IPv6 with IPv4 mapped into it where the machine has IPv6 (it may be switched off), else IPv4.
        """
        return (self.host,) if self.host else ("::", "0.0.0.0")  # noqa: S104  (`:8080` asks for just this)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def size_bytes(text: str) -> int:
    """Bytes from `64MiB`, `256KiB` or plain digits."""
    match = _SIZE.fullmatch(text)
    if not match:
        raise ValueError("not a size")
    return int(match[1]) * _SIZE_UNITS[(match[2] or "").lower()]


def write_size(size: int) -> str:
    """The shortest exact notation."""
    for unit, factor in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size and size % factor == 0:
            return f"{size // factor}{unit}"
    return str(size)


def _write_duration(seconds: float) -> str:
    return str(durationpy.to_str(durationpy.from_str(f"{seconds}s")))


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) > _HIGHEST_PORT:
        raise ValueError(f"the port must be a number up to {_HIGHEST_PORT}")
    return int(text)


def address(text: str) -> Address:
    """An `Address` from `:8080`, `host:8080` or `[::1]:8080`."""
    host, colon, port = text.rpartition(":")
    if not colon:
        raise ValueError("the port needs a colon in front")
    if host.startswith("[") and host.endswith("]") and _IPV6.fullmatch(host[1:-1]):
        return Address(host[1:-1], _port(port))
    if ":" in host:
        raise ValueError("an IPv6 address needs brackets")
    if host and not _HOST_NAME.fullmatch(host):
        raise ValueError("the host is not a name or an address")
    return Address(host, _port(port))


def url(text: str) -> str | None:
    """The URL without a final slash; None if empty. A path is kept, as a prefix."""
    if not text:
        return None
    if "@" in text:  # looked for first: what follows may quote the address
        raise ValueError("no user or password in it: a token has its own variable, FOREMAN_OLLAMA_TOKEN for Ollama")
    if not re.fullmatch(r"[\x21-\x7e]+", text) or "?" in text or "#" in text:
        raise ValueError("no query, fragment or blank in it, and only ASCII characters")
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("it must begin with http:// or https:// and name a host")
    if parts.netloc.endswith(":") or parts.port == 0:  # `port` itself raises ValueError when it is too large
        raise ValueError("the port must be a number from 1 to 65535")
    return text.rstrip("/")


def keep_alive(text: str) -> int | str:
    """What Ollama is sent: a bare integer as a JSON number (it answers 400 to the text "-1"), a Go duration as text."""
    if _INTEGER.fullmatch(text):
        if abs(int(text)) > LONGEST_S:
            raise ValueError("out of range")
        return int(text)
    duration_s(text)
    return text


def secret(text: str) -> SecretStr | None:
    """A secret that can travel in a header; None if empty."""
    if not text:
        return None
    if not re.fullmatch(r"[\x21-\x7e]+", text):
        raise ValueError("only visible ASCII characters, no blanks")
    return SecretStr(text)


def signing_secrets(text: str) -> SecretStr | None:
    """One or several secrets that webhooks can be signed with; None if empty."""
    if not text:
        return None
    Signer.of(text)
    return SecretStr(text)


def db_path(text: str) -> Path:
    """A file's path; `~` is the home folder."""
    if text.startswith(("file:", ":memory:")):
        raise ValueError("it must be a file on disk: the queue is to survive a restart")
    if "\0" in text or text.endswith("/"):
        raise ValueError("not a file's path")
    return Path(text).expanduser()


def _matching(pattern: re.Pattern[str], fault: str) -> Callable[[str], str | None]:
    def check(text: str) -> str | None:
        if text and not pattern.fullmatch(text):
            raise ValueError(fault)
        return text or None

    return check


#: For a Literal: its words, in any case.
AnyCase = BeforeValidator(str.lower)

_GO = "a duration such as 30s, 1h30m or 500ms"
_model_name = _matching(_MODEL, "not a model's name")
_host_header = _matching(_HOST_HEADER, "not a host")

Duration = Annotated[float, BeforeValidator(duration_s), Words(_GO, unit="s", write=_write_duration)]
Size = Annotated[
    int, BeforeValidator(size_bytes), Words("a size such as 64MiB, 256KiB or 1000", unit="bytes", write=write_size)
]
Count = Annotated[int, Words("a whole number")]
Share = Annotated[float, AllowInfNan(allow_inf_nan=False), Words("a number")]
Switch = Annotated[bool, AnyCase, Words("on or off (also true or false, yes or no, 1 or 0)")]
Secret = Annotated[
    SecretStr | None, BeforeValidator(secret), Words("visible ASCII characters without blanks, or empty", secret=True)
]
SigningSecrets = Annotated[
    SecretStr | None,
    BeforeValidator(signing_secrets),
    Words("comma-separated secrets of visible ASCII characters without blanks, or empty", secret=True),
]
WebhookNetworks = Annotated[
    Networks,
    BeforeValidator(Networks.parse),
    Words("lan, public, or networks such as 10.0.0.0/8 or fd00::/8, comma-separated"),
]
ListenAddress = Annotated[Address, BeforeValidator(address), Words(":port (every interface), host:port or [IPv6]:port")]
Url = Annotated[str, BeforeValidator(url), Words("an http:// or https:// address; a path is kept as a prefix")]
OptionalUrl = Annotated[
    str | None, BeforeValidator(url), Words("an http:// or https:// address (a path is kept as a prefix), or empty")
]
HostHeader = Annotated[str | None, BeforeValidator(_host_header), Words("host or host:port, or empty")]
ModelName = Annotated[str | None, BeforeValidator(_model_name), Words("a model's name, or empty")]
KeepAlive = Annotated[
    int | str, BeforeValidator(keep_alive), Words(f"-1 (for ever), 0 (unload at once), whole seconds, or {_GO}")
]
DbPath = Annotated[Path, BeforeValidator(db_path), Words("a file's path")]
