"""What a client's call may raise: the daemon's own errors, looked up by code, and a few that only a client can meet.

::

    ForemanError
    ├── (the daemon's: RequestInvalid, Unauthorized, NotFound, JobNotFound, JobExpired, QueueFull, …)
    ├── NoAnswer
    │   ├── JobFailed
    │   └── JobCancelled
    ├── PositionUnknown
    ├── UnexpectedAnswer
    ├── Unreachable
    └── WaitTimeout

`code` is stable, `str(error)` is a sentence, `hint` the next step if there is one. None of them holds a token.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from foreman import errors
from foreman.errors import ForemanError

if TYPE_CHECKING:
    from foreman.client.types import Job

#: A code that one status has in several classes, and one whose class is made of more than a sentence.
_CHOSEN: Final[Mapping[str, type[ForemanError]]] = {
    "target_unreachable": errors.NotReady,
    "target_refused": errors.TargetError,
}
_BY_CODE: Final[Mapping[str, type[ForemanError]]] = {
    **{each.code: each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, ForemanError)},
    **_CHOSEN,
}
#: What an error is that this version does not know yet: at least its kind.
_BY_STATUS: Final[Mapping[int, type[ForemanError]]] = {
    400: errors.RequestInvalid,
    401: errors.Unauthorized,
    403: errors.NotPermitted,
    404: errors.NotFound,
    409: errors.IllegalTransition,
    410: errors.NotFound,
    413: errors.TooLarge,
    422: errors.RequestInvalid,
    502: errors.TargetError,
    503: errors.Unavailable,
}
#: So much of an answer that nobody expected is shown.
_SHOWN: Final = 200


class Unreachable(ForemanError):
    """foreman could not be reached, or the connection to it broke."""

    code = "unreachable"
    hint = "check that foreman runs, and FOREMAN_URL"


class UnexpectedAnswer(ForemanError):
    """What answered is not foreman, or a version of it that this client does not understand."""

    code = "unexpected_answer"
    hint = "check FOREMAN_URL: is it foreman's address, and nothing else's?"

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


class WaitTimeout(ForemanError, TimeoutError):
    """The job was not over in time; it goes on."""

    code = "wait_timeout"

    def __init__(self, message: str, *, job: Job | None = None) -> None:
        super().__init__(message)
        #: The job as it was then, if it is about one.
        self.job = job


class PositionUnknown(ForemanError):
    """The log ends before the position to go on from: it is another log, or was restored from an older copy."""

    code = "position_unknown"

    def __init__(self, message: str, *, head: int) -> None:
        super().__init__(message)
        #: Where the log ends now.
        self.head = head


class NoAnswer(ForemanError):
    """The job is over and has no answer."""

    code = "no_answer"

    def __init__(self, message: str, *, job_id: str, code: str | None = None) -> None:
        super().__init__(message)
        self.job_id = job_id
        self.code = code or self.code


class JobFailed(NoAnswer):
    """The job failed; `code` is that of the job's own error."""

    code = "job_failed"


class JobCancelled(NoAnswer):
    """The job was cancelled."""

    code = "cancelled"


def error_of(status: int, body: bytes) -> ForemanError:
    """The error that an answer stands for."""
    try:
        said = json.loads(body)
        message, code = said["error"], said["code"]
    except (ValueError, TypeError, KeyError):
        said = message = code = None
    if not isinstance(message, str) or not isinstance(code, str):
        return unexpected(status, body)
    error = (_BY_CODE.get(code) or _BY_STATUS.get(status) or ForemanError)(message)
    error.code = code
    error.hint = _hint(said) or error.hint
    if isinstance(error, errors.Unauthorized):
        error.hint = error.hint or "set FOREMAN_TOKEN to the token that foreman was started with"
    return error


def _hint(said: Mapping[str, Any]) -> str:
    hint = said.get("hint")
    return hint if isinstance(hint, str) else ""


def unexpected(status: int, body: bytes) -> UnexpectedAnswer:
    """An answer that is not what this client knows of foreman, with its beginning."""
    text = " ".join(body[:_SHOWN].decode("utf-8", "replace").split())
    clean = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)
    message = f"an answer with status {status} is not foreman's, or not of this version: {clean or 'it is empty'}"
    return UnexpectedAnswer(message, status=status)
