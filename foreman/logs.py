"""Where log lines go and what they look like. Holds the names used in them; decides nothing about when to log.

A line is an event name that stays stable for machines (`job.requeued`), and named values out of `KEYS`.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from collections.abc import Iterable, Mapping
from typing import Final, Literal, cast
from urllib.parse import quote

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

#: Every name a value may have in a line, with its unit where it has one. A new one is added here first, so that
#: one thing has one name and whoever searches the log can rely on it.
KEYS: Final = frozenset({
    "address", "ahead", "artifact", "attempt", "backoff_s", "cancelled", "cause", "code", "count", "database",
    "delay_s", "duration_s", "endpoint", "error", "event_type", "evicts", "exc_info", "exit_code", "hint", "host",
    "job_id", "key", "load_key", "max_attempts", "method", "model", "models", "name", "path", "peer", "pid", "port",
    "position", "reason", "receiver", "request_id", "requeued", "route", "running", "signal", "size_bytes", "source",
    "state", "status", "swapped", "target", "task", "tokens", "url", "variable", "version", "waited_s", "waiting",
})  # fmt: skip

#: Loggers of libraries, and the least severe line of theirs that helps an operator. All else goes by the root.
_LIBRARIES: Final[Mapping[str, int]] = {
    "aiohttp": logging.WARNING,
    "aiosqlite": logging.WARNING,  # its DEBUG is every statement with its values, prompts among them
    "asyncio": logging.WARNING,
    "httpcore": logging.WARNING,
    "httpx": logging.WARNING,  # its INFO is one line a request
    "sanic.access": logging.CRITICAL + 1,
    "sanic.error": logging.WARNING,
    "sanic.root": logging.WARNING,  # its INFO is the banner
    "sanic.server": logging.WARNING,
    "sanic.websockets": logging.WARNING,
    "websockets": logging.WARNING,
}

HIDDEN: Final = "***"
#: A secret that happens to be `info` must not hide the level.
_NEVER_SECRET: Final = frozenset({"at", "level", "logger"})
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")


class SecretGuard:
    """A processor that replaces registered secrets in every value of a line, however deep; keys are ours and stay."""

    def __init__(self, secrets: Iterable[str]) -> None:
        forms = {form for secret in secrets if secret for form in _written(secret)}
        # The longest first: a secret may contain another one.
        longest_first = sorted(forms, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first))) if forms else None

    def __call__(self, logger: WrappedLogger, method: str, line: EventDict) -> EventDict:
        """The line without the secrets."""
        if self._pattern is None:
            return line
        return {
            key: value if key in _NEVER_SECRET else self._hidden(value, self._pattern) for key, value in line.items()
        }

    def _hidden(self, value: object, pattern: re.Pattern[str]) -> object:
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, Mapping):
            return {self._hidden(k, pattern): self._hidden(v, pattern) for k, v in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [self._hidden(item, pattern) for item in value]
        # Anything else is written as its repr in the end, so that is what has to be clean.
        return pattern.sub(HIDDEN, value if isinstance(value, str) else repr(value))


def _written(secret: str) -> set[str]:
    # As it is, inside a Python repr, inside JSON, inside a URL.
    return {
        secret,
        secret.replace("\\", "\\\\"),
        repr(secret)[1:-1],
        json.dumps(secret)[1:-1],
        quote(secret, safe=""),
    }


def _one_line(logger: WrappedLogger, method: str, line: EventDict) -> EventDict:
    # A model's name or a path comes from outside: a line break in it must not forge a line, nor an escape sequence
    # reach a terminal. A traceback is several lines on purpose.
    return {
        key: _CONTROL.sub(_pictured, value) if isinstance(value, str) and key != "exception" else value
        for key, value in line.items()
    }


def _pictured(match: re.Match[str]) -> str:
    # Unicode's pictures of control characters (`␊`, `␛`); a backslash would be doubled where the renderer quotes.
    code = ord(match[0])
    return chr(0x2400 + code) if code < ord(" ") else "\N{REPLACEMENT CHARACTER}"


def _renderers(form: Literal["text", "json"]) -> list[Processor]:
    if form == "json":
        return [structlog.processors.JSONRenderer()]
    colors = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    console = structlog.dev.ConsoleRenderer(
        colors=colors,
        pad_event_to=0,
        pad_level=False,
        timestamp_key="at",
        exception_formatter=structlog.dev.plain_traceback,
        sort_keys=False,
    )
    return [_one_line, console]


def configure(form: Literal["text", "json"], level: str, secrets: Iterable[str] = ()) -> None:
    """Send every line, the libraries' too, to stderr in one form. The last call counts.

    `level` is the name of a standard level. Sanic must be made with `configure_logging=False`, or it brings its own
    handlers.
    """
    number = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                SecretGuard(secrets),
                *_renderers(form),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(number)
    _quieten_libraries(number)
    logging.captureWarnings(capture=True)


def _quieten_libraries(level: int) -> None:
    for name, least in _LIBRARIES.items():
        library = logging.getLogger(name)
        library.handlers = []
        library.propagate = True
        library.setLevel(max(least, level))


def get_logger(name: str) -> FilteringBoundLogger:
    """The logger of one module. Cheap, and good before `configure` too."""
    return cast("FilteringBoundLogger", structlog.get_logger(name))
