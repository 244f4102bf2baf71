"""What `foreman doctor` asks of the daemon: whether one serves, whether it takes this shell's token, and its target.

While a daemon serves, its target is judged by what it says of it: it need not be the one of this shell's settings.
"""

from __future__ import annotations

from typing import Any, Final

import httpx
import orjson

from foreman.cli.checks import Finding, Verdict
from foreman.errors import TargetBroke, TargetUnreachable
from foreman.target.client import error_text, refused

#: What foreman answers by itself comes at once or not at all.
AT_ONCE_S: Final = 10.0
#: A path that asks for the token, unlike `/healthz`, and names the target.
GUARDED: Final = "/statistics"


class Daemon:
    """A foreman that serves."""

    def __init__(self, url: str, token: str | None) -> None:
        self.url = url
        self.token = token
        #: As `/healthz` has it.
        self.health: dict[str, Any] = {}
        #: Where its target is; empty if it did not say.
        self.target_url = ""
        #: It takes this shell's token, or none.
        self.admits = False
        #: It asks for a token, so that the one that it takes is its own.
        self.asks_token = False

    async def ask(self, path: str, *, introduced: bool) -> httpx.Response:
        """Its answer, with this shell's token or without one. Raises httpx.HTTPError."""
        async with httpx.AsyncClient(timeout=AT_ONCE_S, trust_env=False) as client:
            return await client.get(self.url + path, headers=self._headers() if introduced else {})

    async def fetch(self, method: str, path: str, body: bytes | None = None, *, within_s: float) -> bytes:
        """As the target's client does, in turn like everybody's: a call past the queue could evict its model.

        Raises TargetError.
        """
        try:
            async with httpx.AsyncClient(timeout=within_s, trust_env=False) as client:
                answer = await client.request(method, self.url + path, content=body, headers=self._headers())
        except httpx.TimeoutException as error:
            raise TargetBroke(f"{method} {path} had no answer within {within_s:g} s, its turn included") from error
        except httpx.HTTPError as error:
            raise TargetUnreachable(f"{self.url}: {error}") from error
        if answer.status_code != httpx.codes.OK:
            raise refused(answer.status_code, answer.headers.get("content-type", ""), answer.content)
        return answer.content

    def _headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.token}"} if self.token else {}


async def of_daemon(url: str, token: str | None) -> tuple[Daemon | None, list[Finding]]:
    """The foreman that serves at the address, if one does, and what is to be said of it."""
    daemon = Daemon(url, token)
    try:
        health = (await daemon.ask("/healthz", introduced=False)).json()
        daemon.health = {**health}
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, TypeError):
        return None, [Finding("daemon", Verdict.NOTE, f"none serves at {url}", "foreman serve")]
    if "sqlite_version" not in health:
        said = f"what answers at {url} is no foreman"
        return None, [Finding("daemon", Verdict.FAILED, said, "let FOREMAN_URL name foreman's own address")]
    said = f"{url}, version {health.get('version')}, jobs waiting: {health['queue']['waiting']:,}"
    found = [Finding("daemon", Verdict.OK, said)]
    if health.get("degraded"):
        found = [Finding("daemon", Verdict.WARNING, f"{said}; its target is away")]
    try:
        found += await _admission(daemon)
    except httpx.HTTPError as error:
        found.append(Finding("daemon", Verdict.FAILED, f"{url}{GUARDED}: {error!r}", "see foreman's log"))
    return daemon, found


async def _admission(daemon: Daemon) -> list[Finding]:
    """Whether it takes this shell's token. Raises httpx.HTTPError."""
    answer = await daemon.ask(GUARDED, introduced=True)
    if answer.status_code == httpx.codes.UNAUTHORIZED:
        said = "the daemon does not take this shell's" if daemon.token else "the daemon asks for one, and there is none"
        step = "export FOREMAN_TOKEN=…, the same as the daemon's, and ask again"
        return [Finding("token", Verdict.FAILED, f"{said}: it refuses all that is asked from here", step)]
    if answer.is_error:
        said = f"HTTP {answer.status_code}: {error_text(answer.status_code, answer.content)}"
        return [Finding("daemon", Verdict.FAILED, said, "see foreman's log")]
    daemon.admits = True
    daemon.target_url = _target_url(answer.content)
    if daemon.token:
        unnamed = await daemon.ask(GUARDED, introduced=False)
        daemon.asks_token = unnamed.status_code == httpx.codes.UNAUTHORIZED
    return []


def _target_url(body: bytes) -> str:
    """Where the target is, as `/statistics` says; empty if an older foreman does not."""
    try:
        return str(orjson.loads(body)["target"].get("url") or "")
    except (ValueError, TypeError, KeyError, AttributeError):
        return ""
