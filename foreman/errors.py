"""Every error foreman raises on purpose, as one tree. Holds no HTTP status: those live in `api/errors.py`.

::

    ForemanError
    ├── RequestInvalid
    │   ├── AddressRefused
    │   ├── IdempotencyMismatch
    │   ├── NotPermitted
    │   ├── TooLarge
    │   └── Unauthorized
    ├── NotFound
    │   ├── ArtifactNotFound
    │   ├── DeliveryNotFound
    │   ├── EventsArchived
    │   ├── JobNotFound
    │   ├── ModelNotFound
    │   └── JobExpired
    ├── IllegalTransition
    ├── Unavailable
    │   ├── Draining
    │   ├── QueueFull
    │   ├── StorageFull
    │   └── NotReady
    ├── TargetError
    │   ├── AnswerTooLarge
    │   ├── TargetUnreachable
    │   ├── TargetBroke
    │   └── TargetRefused
    ├── LogError
    │   ├── UnknownEvent
    │   ├── LogCorrupt
    │   ├── ArchiveUnusable
    │   ├── ExportInvalid
    │   └── CommitUnknown
    ├── CopyFailed
    ├── DatabaseLocked
    ├── ViewCorrupt
    ├── DatabaseUnusable
    │   ├── DatabaseBroke
    │   └── SchemaOlder
    └── ConfigError
"""

from __future__ import annotations


class ForemanError(Exception):
    """Something foreman can name went wrong."""

    #: `code` is the wire contract (stable), the message is for people, `hint` is the operator's next step.
    code: str = "internal"
    hint: str = ""

    def __init__(self, message: str = "", *, hint: str | None = None) -> None:
        """`hint` is a next step that fits better than that of all errors of this kind."""
        super().__init__(message or (type(self).__doc__ or "").strip())
        if hint is not None:
            self.hint = hint


class RequestInvalid(ForemanError):
    """The request cannot be understood."""

    code = "invalid_request"


class AddressRefused(RequestInvalid):
    """foreman does not send webhooks to this address."""

    code = "address_refused"


class IdempotencyMismatch(RequestInvalid):
    """This Idempotency-Key was used with another request."""

    code = "idempotency_mismatch"


class NotPermitted(RequestInvalid):
    """This is switched off here."""

    code = "not_permitted"


class TooLarge(RequestInvalid):
    """The request body is too large."""

    code = "too_large"


class Unauthorized(RequestInvalid):
    """A valid token is needed."""

    code = "unauthorized"


class NotFound(ForemanError):
    """There is no such thing."""

    code = "not_found"


class JobNotFound(NotFound):
    """There is no job with this id."""

    code = "job_not_found"


class ArtifactNotFound(NotFound):
    """The job has no such artifact."""

    code = "artifact_not_found"


class DeliveryNotFound(NotFound):
    """The job has no such delivery."""

    code = "delivery_not_found"


class EventsArchived(NotFound):
    """These events were moved to an archive."""

    code = "events_archived"
    hint = "`foreman export` and `foreman replay` read archives; over HTTP read on after the position that is named"


class ModelNotFound(NotFound):
    """The target has no such model."""

    code = "model_not_found"


class JobExpired(NotFound):
    """The job is past its keeping time: its contents were removed, its history remains."""

    code = "job_expired"


class IllegalTransition(ForemanError):
    """The job's state does not allow this."""

    code = "illegal_transition"


class Unavailable(ForemanError):
    """Not now; trying again later may work."""

    code = "unavailable"


class Draining(Unavailable):
    """foreman is shutting down."""

    code = "shutting_down"


class QueueFull(Unavailable):
    """The queue is full."""

    code = "queue_full"


class StorageFull(Unavailable):
    """The disk is full: nothing was accepted."""

    code = "storage_full"
    hint = "free some space on the disk that holds the database"


class NotReady(Unavailable):
    """target unreachable"""

    code = "target_unreachable"
    hint = "check FOREMAN_OLLAMA_URL and that Ollama is running"


class TargetError(ForemanError):
    """A call to the target failed."""

    code = "target_error"


class TargetUnreachable(TargetError):
    """The target could not be reached, so the call never started."""

    code = "target_unreachable"


class AnswerTooLarge(TargetError):
    """The target's answer is too long to be kept."""

    code = "answer_too_large"


class TargetBroke(TargetError):
    """The connection to the target broke after the call had started."""

    code = "target_broke"


class TargetRefused(TargetError):
    """The target answered with an error; `status` and `body` are its own."""

    code = "target_refused"

    def __init__(self, message: str, *, status: int, body: bytes, content_type: str) -> None:
        super().__init__(message)
        self.status = status
        self.body = body
        self.content_type = content_type


class LogError(ForemanError):
    """The event log cannot be used."""

    code = "log_error"


class UnknownEvent(LogError):
    """The log holds an event type that this version does not know."""

    code = "unknown_event"
    hint = "the database was written by a newer foreman; run that version or newer"


class LogCorrupt(LogError):
    """The log contradicts itself."""

    code = "log_corrupt"
    hint = "stop foreman and restore the last backup; keep the broken file for a look"


class ArchiveUnusable(LogError):
    """An archive of the log is missing, or is not as it was written."""

    code = "archive_unusable"
    hint = "put the file back where it was, from a backup if need be: a part of the log is only there"


class ExportInvalid(LogError):
    """This is no whole and unchanged export of a log."""

    code = "export_invalid"
    hint = "export it again, and pass the file on as it is"


class CommitUnknown(LogError):
    """A commit failed in a way that leaves its fate unknown: only a fresh look at the disk tells."""

    code = "commit_unknown"
    hint = "check the disk and its kernel messages, then start foreman again: it recovers from the log"


class CopyFailed(ForemanError):
    """A copy could not be written."""

    code = "copy_failed"


class DatabaseLocked(ForemanError):
    """Another foreman uses this database."""

    code = "database_locked"
    hint = "stop the other foreman, or give this one its own FOREMAN_DB_PATH"


class ViewCorrupt(ForemanError):
    """What the database says of a job cannot be read."""

    code = "view_corrupt"
    hint = "`foreman audit` says what else is wrong; `foreman replay --into FILE` makes a sound database of the log"


class DatabaseUnusable(ForemanError):
    """The database file cannot be opened."""

    code = "database_unusable"
    hint = "check FOREMAN_DB_PATH or --db, and who may read and write the file and its folder"


class DatabaseBroke(DatabaseUnusable):
    """Reading the database file, or writing it, failed after it had been opened."""

    code = "database_broke"
    hint = "`foreman audit` says how much of the file is left; if it is damaged, put the last backup in its place"


class SchemaOlder(DatabaseUnusable):
    """An older foreman wrote this database."""

    code = "schema_older"
    hint = "a start of this foreman brings it up to date; before that `foreman backup` and `foreman export` read it"


class ConfigError(ForemanError):
    """The settings are wrong; the message lists every fault."""

    code = "config"
