"""What becomes of jobs that foreman's own end cut short, at shutdown and after a crash."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from foreman.commands.interruption import after_interruption
from foreman.commands.types import CancelJob, RequeueJob
from foreman.events.types import CancelledBy, IdempotencyKey, RequeueReason, Source
from foreman.fsm.job import ACTIVE, RUNNING, State
from tests.core import HISTORIES, job_after

KEY = IdempotencyKey(key="chat:k", fingerprint="f")
ERRORS = {CancelledBy.SHUTDOWN: "foreman was shut down", CancelledBy.RESTART: "foreman was restarted"}


def job_in(state: State, source: Source, key: IdempotencyKey | None = None):
    queued, *rest = HISTORIES[state]
    return job_after(replace(queued, source=source, idempotency=key), *rest)


@pytest.mark.parametrize("state", sorted(ACTIVE))
@pytest.mark.parametrize("by", ERRORS)
def test_blocking_call_is_cancelled_since_its_caller_is_gone(state, by):
    assert after_interruption(job_in(state, Source.SYNC), by) == CancelJob(job_id="J", by=by)


@pytest.mark.parametrize("state", sorted(RUNNING))
@pytest.mark.parametrize("by", ERRORS)
@pytest.mark.parametrize(("source", "key"), [(Source.ASYNC, None), (Source.SYNC, KEY)], ids=["job", "call with a key"])
def test_running_job_that_somebody_can_ask_for_is_queued_again(state, by, source, key):
    command = after_interruption(job_in(state, source, key), by)
    assert command == RequeueJob(job_id="J", reason=RequeueReason.INTERRUPTED, error=ERRORS[by])


@pytest.mark.parametrize(("source", "key"), [(Source.ASYNC, None), (Source.SYNC, KEY)], ids=["job", "call with a key"])
def test_waiting_job_that_somebody_can_ask_for_goes_on_waiting(source, key):
    assert after_interruption(job_in(State.QUEUED, source, key), CancelledBy.RESTART) is None
