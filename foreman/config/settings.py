"""The table of settings, and reading it from an environment. Reads no file and logs nothing: it hands back data.

A field is a row: its alias is the variable, its default the text a person would write, its type and bounds what is
allowed. `SETTINGS` is the same table as data, from which `--help`, `.env.example` and the docs page are made.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from foreman.config.kinds import (
    AnyCase,
    Count,
    DbPath,
    Duration,
    HostHeader,
    KeepAlive,
    ListenAddress,
    ModelName,
    OptionalUrl,
    Secret,
    Share,
    SigningSecrets,
    Size,
    Switch,
    Url,
    WebhookNetworks,
)
from foreman.config.row import Setting
from foreman.errors import ConfigError
from foreman.signing import Signer

#: Below what SQLite takes as one value (1,000,000,000 bytes).
_LARGEST_BYTES = 512 * 1024 * 1024


def _row(variable: str, default: str, group: str, description: str, **bounds: Any) -> Any:
    return Field(default, alias=variable, description=description, json_schema_extra={"group": group}, **bounds)


class _Connections(BaseModel):
    """The rows of how foreman is reached and how it reaches its target."""

    model_config = ConfigDict(frozen=True, validate_default=True, extra="ignore", hide_input_in_errors=True)

    addr: ListenAddress = _row("FOREMAN_ADDR", ":8080", "Server", "Where to listen.")
    token: Secret = _row(
        "FOREMAN_TOKEN", "", "Server", "Bearer token that callers must send (not for /healthz); empty asks for none."
    )
    public_url: OptionalUrl = _row(
        "FOREMAN_PUBLIC_URL",
        "",
        "Server",
        "How callers reach foreman, for the links it hands out; empty takes it from each request.",
    )
    max_body_bytes: Size = _row(
        "FOREMAN_MAX_BODY", "64MiB", "Server", "Largest request body accepted.", ge=1024, le=_LARGEST_BYTES
    )
    keepalive_after_s: Duration = _row(
        "FOREMAN_KEEPALIVE_AFTER",
        "120s",
        "Server",
        "A blocking caller that has waited this long gets bytes that its client ignores, so that it stays; 0 never.",
        ge=0,
    )
    drain_timeout_s: Duration = _row(
        "FOREMAN_DRAIN_TIMEOUT",
        "30s",
        "Server",
        "How long a running job may go on at shutdown before it is put back in the queue.",
        ge=0,
    )

    ollama_url: Url = _row(
        "FOREMAN_OLLAMA_URL", "http://127.0.0.1:11434", "Target", "The Ollama server behind foreman."
    )
    ollama_token: Secret = _row(
        "FOREMAN_OLLAMA_TOKEN", "", "Target", "Bearer token sent to the Ollama server; empty sends none."
    )
    ollama_host_header: HostHeader = _row(
        "FOREMAN_OLLAMA_HOST_HEADER",
        "",
        "Target",
        "Host header sent to the Ollama server; empty sends localhost:<port> over plain http to a private address or "
        "a local name, which an Ollama bound to loopback accepts, and else the address's own host.",
    )
    connect_timeout_s: Duration = _row(
        "FOREMAN_CONNECT_TIMEOUT", "5s", "Target", "How long connecting to the Ollama server may take.", ge=0.01
    )
    poll_interval_s: Duration = _row(
        "FOREMAN_POLL_INTERVAL",
        "30s",
        "Target",
        "How often the Ollama server is asked which models it has and which are loaded.",
        ge=0.01,
    )
    stall_after_s: Duration = _row(
        "FOREMAN_STALL_AFTER",
        "5m",
        "Target",
        "A load or a generation without a byte of its answer for this long has stalled, and its attempt is over; 0 "
        "never.",
        ge=0,
    )
    stall_between_s: Duration = _row(
        "FOREMAN_STALL_BETWEEN", "2m", "Target", "The same for a stream that has begun; 0 never.", ge=0
    )
    keep_alive: KeepAlive = _row(
        "FOREMAN_KEEP_ALIVE",
        "-1",
        "Target",
        "How long the worker model stays loaded after a job whose caller did not say.",
    )
    embed_model: ModelName = _row(
        "FOREMAN_EMBED_MODEL",
        "",
        "Target",
        "Embedding model that is kept loaded beside the worker model; empty keeps none.",
    )
    embed_concurrency: Count = _row(
        "FOREMAN_EMBED_CONCURRENCY",
        "8",
        "Target",
        "How many embedding calls the Ollama server is given at once.",
        ge=1,
        le=4096,
    )
    management: Switch = _row(
        "FOREMAN_MANAGEMENT",
        "off",
        "Target",
        "Whether callers may pull, push, create, copy and delete models through foreman.",
    )


class Settings(_Connections):
    """Everything that can be set, checked and in the units of the field names. Made by `load`."""

    parallel: Count = _row(
        "FOREMAN_PARALLEL",
        "1",
        "Scheduling",
        "How many jobs of one model run side by side; give it the value of OLLAMA_NUM_PARALLEL.",
        ge=1,
        le=1024,
    )
    max_wait_s: Duration = _row(
        "FOREMAN_MAX_WAIT",
        "10m",
        "Scheduling",
        "A batch job that has waited longer is overdue and may end another model's turn; 0 never.",
        ge=0,
    )
    max_wait_interactive_s: Duration = _row(
        "FOREMAN_MAX_WAIT_INTERACTIVE",
        "15s",
        "Scheduling",
        "The same for a job whose caller waits for the answer; 0 never.",
        ge=0,
    )
    swap_share: Share = _row(
        "FOREMAN_SWAP_SHARE",
        "0.1",
        "Scheduling",
        "The part of the time that swapping models may cost while jobs are overdue; 1 swaps at once, 0 never.",
        ge=0,
        le=1,
    )
    max_queue: Count = _row(
        "FOREMAN_MAX_QUEUE",
        "100000",
        "Scheduling",
        "How many jobs may wait; further ones are answered 503.",
        ge=1,
        le=100_000_000,
    )
    max_attempts: Count = _row(
        "FOREMAN_MAX_ATTEMPTS",
        "3",
        "Scheduling",
        "How many attempts a job has when the connection to the Ollama server breaks under it.",
        ge=1,
        le=100,
    )

    db_path: DbPath = _row("FOREMAN_DB_PATH", "foreman.db", "Storage", "The SQLite file that holds everything.")
    job_ttl_s: Duration = _row(
        "FOREMAN_JOB_TTL", "24h", "Storage", "How long the contents of a finished job are kept.", ge=1
    )
    inline_limit_bytes: Size = _row(
        "FOREMAN_INLINE_LIMIT",
        "256KiB",
        "Storage",
        "An artifact up to this size is shown inside its job's JSON, a larger one as a link.",
        ge=0,
        le=_LARGEST_BYTES,
    )

    webhook_secret: SigningSecrets = _row(
        "FOREMAN_WEBHOOK_SECRET",
        "",
        "Webhooks",
        "What webhooks are signed with; a comma-separated list signs with each, while one replaces another; empty "
        "signs nothing.",
    )
    webhook_networks: WebhookNetworks = _row(
        "FOREMAN_WEBHOOK_NETWORKS",
        "lan",
        "Webhooks",
        "Where webhooks may go: public is the public internet, lan that and private and loopback addresses; a network "
        "opens just itself.",
    )
    webhook_concurrency: Count = _row(
        "FOREMAN_WEBHOOK_CONCURRENCY",
        "32",
        "Webhooks",
        "How many webhooks are being delivered at once; at most 4 of them to one receiver.",
        ge=1,
        le=1024,
    )
    webhook_timeout_s: Duration = _row(
        "FOREMAN_WEBHOOK_TIMEOUT",
        "10s",
        "Webhooks",
        "How long one attempt to deliver a webhook may take in all.",
        ge=0.1,
        le=60,
    )

    log_level: Annotated[Literal["debug", "info", "warning", "error"], AnyCase] = _row(
        "FOREMAN_LOG_LEVEL", "info", "Logging", "The least severe lines that are written."
    )
    log_format: Annotated[Literal["text", "json"], AnyCase] = _row(
        "FOREMAN_LOG_FORMAT", "text", "Logging", "Lines for people, or one JSON object a line."
    )

    @classmethod
    def load(cls, environ: Mapping[str, str]) -> Self:
        """The settings in `environ`; an empty or missing variable takes its default. Every fault in one ConfigError."""
        given = _given(environ)
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            faults = [_fault(str(detail["loc"][0]), given, detail.get("ctx", {})) for detail in error.errors()]
        # Raised out here so that its context is not pydantic's error, which holds the values of secrets.
        count = "one setting is" if len(faults) == 1 else f"{len(faults)} settings are"
        raise ConfigError("\n  ".join([f"{count} wrong:", *faults]))

    @property
    def secrets(self) -> tuple[str, ...]:
        """Every secret's value, for the log to keep out of its lines; of a list also each one alone."""
        values = (getattr(self, row.attribute) for row in SETTINGS if row.secret)
        whole = [value.get_secret_value() for value in values if isinstance(value, SecretStr)]
        listed = Signer.of(self.webhook_secret.get_secret_value()).texts if self.webhook_secret else ()
        return tuple(dict.fromkeys([*whole, *listed]))


SETTINGS = tuple(Setting.of(attribute, field) for attribute, field in Settings.model_fields.items())
BY_VARIABLE = {row.variable: row for row in SETTINGS}


def _given(environ: Mapping[str, str]) -> dict[str, str]:
    # Blanks around a value come from files and `$(cat …)`. A value of blanks alone is kept as it is, to be refused:
    # a token that was lost that way would silently open the door.
    return {name: environ[name].strip() or environ[name] for name in BY_VARIABLE if environ.get(name)}


def _fault(variable: str, given: Mapping[str, str], context: Mapping[str, Any]) -> str:
    row = BY_VARIABLE[variable]
    value = "***" if row.secret else _shown(given[variable])
    reason = f"{context['error']}; " if "error" in context else ""
    return f"{variable}={value}: {reason}allowed is {row.allowed}"


def _shown(value: str) -> str:
    # People put passwords and keys into addresses.
    value = re.sub(r"\?.*", "?***", re.sub(r".*@", "***@", value, flags=re.DOTALL), flags=re.DOTALL)
    return repr(value if len(value) <= 100 else value[:100] + "…")
