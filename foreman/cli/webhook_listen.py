"""`foreman webhook-listen`: a receiver to try webhooks with. Owns the server and what is printed; stores nothing."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import click
import orjson
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from foreman.cli.parameters import Duration
from foreman.cli.webhook_arrivals import Judge, Payload, Signature, Verdict, read
from foreman.config.kinds import Address, address
from foreman.signing import Signer
from foreman.sockets import listen

LARGEST_BODY: Final = 64 << 20
TAKEN: Final = 200
#: How long an answer may take that is being given when the end comes.
LAST_ANSWERS_S: Final = 0.5

_STATE_COLOURS: Final = {"done": "green", "failed": "red", "cancelled": "yellow"}


def line(payload: Payload, verdict: Verdict, at: datetime) -> str:
    """One line for a person, in colours."""
    before = f"{payload.previous_state} → " if payload.previous_state else "→ "
    state = click.style(_clean(payload.state), fg=_STATE_COLOURS.get(payload.state, "cyan"))
    parts = [
        click.style(_time(at), dim=True),
        _clean(payload.job_id),
        _clean(before) + state,
        _clean(payload.model or "no model"),
        f"attempt {payload.attempt}" if payload.attempt is not None else "no attempt",
        _signature_words(verdict),
    ]
    notes = ["repeat"] if verdict.repeat else []
    if verdict.gap:
        first, last = verdict.gap
        missing = f"{first}" if first == last else f"{first}–{last}"  # noqa: RUF001
        notes.append(f"gap: {missing} not seen (not asked for, or given up)")
    if verdict.out_of_order:
        notes.append("out of order")
    return "  ".join([*parts, *(click.style(note, fg="yellow") for note in notes)])


def _signature_words(verdict: Verdict) -> str:
    match verdict.signature:
        case Signature.OK:
            return click.style("signature ok", fg="green")
        case Signature.WRONG:
            return click.style(f"signature WRONG: {verdict.why}", fg="red", bold=True)
        case Signature.NONE:
            return click.style("not signed", fg="yellow")
        case Signature.UNCHECKED:
            return "signed, no secret given"


def record(payload: Payload, verdict: Verdict, at: datetime) -> dict[str, Any]:
    """The same for a program."""
    return {
        "received_at": at.isoformat(timespec="milliseconds"),
        **payload.model_dump(),
        "signature": verdict.signature,
        "signature_fault": verdict.why or None,
        "repeat": verdict.repeat,
        "gap": verdict.gap,
        "out_of_order": verdict.out_of_order,
    }


def _time(at: datetime) -> str:
    return at.astimezone().isoformat(timespec="milliseconds")[11:23]


def _clean(text: str) -> str:
    # An escape sequence in a model's name or answer must not reach the terminal, nor text that reads backwards.
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to answer, and what to print."""

    status: int = TAKEN
    retry_after_s: int | None = None
    delay_s: float = 0.0
    as_json: bool = False
    body: bool = False
    #: How many deliveries to take; None for no end.
    count: int | None = None


class Receiver:
    """Answers the requests and prints them as they come."""

    def __init__(self, judge: Judge, options: Options) -> None:
        self._judge = judge
        self._options = options
        #: Resolved when enough was received or a signal came; holds an error if stdout is gone.
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def handle(self, request: web.Request) -> web.Response:
        """Take one request."""
        at = datetime.now(UTC)
        try:
            body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            self._print_foreign(f"more than {LARGEST_BODY >> 20} MiB", at)
            raise
        except (ConnectionError, web.RequestPayloadError):
            self._print_foreign("the sender broke off", at)
            raise web.HTTPBadRequest from None
        if self._has_enough():
            raise web.HTTPServiceUnavailable
        try:
            payload, whole = read(body)
        except ValueError as fault:
            self._print_foreign(str(fault), at)
            raise web.HTTPBadRequest(text=f"not a webhook of foreman's: {fault}\n") from None
        self._print(payload, self._judge.judge(payload, body, request.headers, at.timestamp()), whole, at)
        has_enough = self._has_enough()
        await asyncio.sleep(self._options.delay_s)
        if has_enough:
            self.end()
        wait_s = self._options.retry_after_s
        return web.Response(
            status=self._options.status, headers=None if wait_s is None else {"Retry-After": str(wait_s)}
        )

    def end(self) -> None:
        """Take no more; the answers under way are still given."""
        if not self.over.done():
            self.over.set_result(None)

    def _has_enough(self) -> bool:
        return self._options.count is not None and self._judge.tally["deliveries"] >= self._options.count

    def _print(self, payload: Payload, verdict: Verdict, whole: Any, at: datetime) -> None:
        if self._options.as_json:
            found = record(payload, verdict, at)
            self._write_json(found | {"payload": whole} if self._options.body else found)
            return
        self._write(line(payload, verdict, at))
        if self._options.body:
            indented = orjson.dumps(whole, option=orjson.OPT_INDENT_2).decode()
            self._write("\n".join(f"    {_clean(part)}" for part in indented.split("\n")))

    def _print_foreign(self, fault: str, at: datetime) -> None:
        self._judge.tally["other requests"] += 1
        if self._options.as_json:
            self._write_json({"received_at": at.isoformat(timespec="milliseconds"), "refused": fault})
        else:
            self._write(f"{_time(at)}  not a webhook of foreman's, refused: {_clean(fault)}")

    def _write_json(self, found: dict[str, Any]) -> None:
        # Pure ASCII, so that no control character gets through; JSON itself leaves DEL as it is.
        self._write(json.dumps(found).replace("\x7f", "\\u007f"))

    def _write(self, text: str) -> None:
        try:
            click.echo(text, color=False if os.environ.get("NO_COLOR") else None)
        except OSError as error:  # whoever read the output has gone, as `| head` does
            if not self.over.done():
                self.over.set_exception(error)


def _parsed(parse: Callable[[str], Any]) -> Callable[[click.Context, click.Parameter, str | None], Any]:
    def convert(ctx: click.Context, param: click.Parameter, text: str | None) -> Any:
        try:
            return None if text is None else parse(text)
        except ValueError as fault:
            raise click.BadParameter(str(fault), ctx=ctx, param=param) from None

    return convert


def _secret(text: str) -> str | None:
    if text:
        Signer.of(text)
    return text or None


@click.command(short_help="Receive webhooks and print them, to try them out.")
@click.option(
    "--addr",
    "place",
    callback=_parsed(address),
    metavar="ADDRESS",
    default="127.0.0.1:9000",
    show_default=True,
    help="Where to listen; port 0 takes a free one.",
)
@click.option(
    "--secret",
    callback=_parsed(_secret),
    metavar="SECRET",
    envvar="FOREMAN_WEBHOOK_SECRET",
    show_envvar=True,
    help="Check signatures with it; several may be given, separated by commas.",
)
@click.option(
    "--status",
    type=click.IntRange(200, 599),
    default=TAKEN,
    show_default=True,
    help="Answer with this; another than 2xx shows how foreman tries again.",
)
@click.option("--retry-after", type=click.IntRange(0), metavar="SECONDS", help="With --status: ask foreman to wait.")
@click.option("--delay", type=Duration(), metavar="DURATION", default="0s", help="Answer this much later, such as 3s.")
@click.option("--json", "as_json", is_flag=True, help="Print each delivery as one line of JSON.")
@click.option("--body", is_flag=True, help="Print the payload too.")
@click.option("--count", type=click.IntRange(1), help="End after so many deliveries.")
def webhook_listen(
    *,
    place: Address,
    secret: str | None,
    status: int,
    retry_after: int | None,
    delay: float,
    as_json: bool,
    body: bool,
    count: int | None,
) -> None:
    """Receive webhooks and print one line each: what happened, whether the signature is right, repeats and gaps.

    Example: foreman webhook-listen --addr 127.0.0.1:9000

    Then send jobs with "state_webhook_url": "http://127.0.0.1:9000/". Ctrl-C ends it with a summary.
    """
    if retry_after is not None and status == TAKEN:
        raise click.UsageError("--retry-after goes with --status; a webhook that was taken is not tried again")
    options = Options(status=status, retry_after_s=retry_after, delay_s=delay, as_json=as_json, body=body, count=count)
    asyncio.run(_run(place, Judge(secret), options, is_checked=secret is not None))


async def _run(place: Address, judge: Judge, options: Options, *, is_checked: bool) -> None:
    """Listen until a signal comes or enough was received. Raises ConfigError if the address cannot be had."""
    sockets = listen(place)
    receiver = Receiver(judge, options)
    # A body is signed as it was sent, so it is not unpacked.
    app = web.Application(client_max_size=LARGEST_BODY)
    app.router.add_post("/{path:.*}", receiver.handle)
    runner = web.AppRunner(app, access_log=None, auto_decompress=False, shutdown_timeout=LAST_ANSWERS_S)
    # Bytes that are no HTTP are the sender's fault; a traceback would look like one of ours.
    logging.getLogger("aiohttp.server").addFilter(
        lambda entry: not (entry.exc_info and isinstance(entry.exc_info[1], HttpProcessingError))
    )
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, receiver.end)
    try:
        await runner.setup()
        for sock in sockets:
            await web.SockSite(runner, sock).start()
        _say_hello(place, sockets[0].getsockname()[1], is_checked=is_checked)
        await receiver.over
    finally:
        await runner.cleanup()
        click.echo(summary(judge, is_checked=is_checked), err=True)


def _say_hello(place: Address, port: int, *, is_checked: bool) -> None:
    here = "127.0.0.1" if place.host in {"", "0.0.0.0", "::"} else place.host  # noqa: S104
    url = f"http://{Address(here, port)}/"
    checked = "signatures are checked" if is_checked else "no secret, so signatures are not checked"
    click.echo(f"foreman: receiving webhooks at {url} ({checked}); Ctrl-C ends it", err=True)
    click.echo(f'  "state_webhook_url": "{url}"', err=True)


def summary(judge: Judge, *, is_checked: bool) -> str:
    """All that arrived, in one line."""
    counts = {name: judge.tally[name] for name in ("deliveries", "repeats", "gaps")}
    if is_checked:
        counts |= {"wrong signatures": judge.tally[Signature.WRONG], "not signed": judge.tally[Signature.NONE]}
    if judge.tally["other requests"]:
        counts["other requests"] = judge.tally["other requests"]
    return "foreman: " + ", ".join(f"{name} {number}" for name, number in counts.items())
