"""The bytes of jobs: kept as they are, streams compressed, found by name and size, gone when expired."""

from __future__ import annotations

import hashlib

import pytest

from foreman.commands.types import CancelJob, ExpireJob, FinishJob, StartWorking
from foreman.events.types import CancelledBy
from foreman.projections import contents
from foreman.projections.contents import artifact
from foreman.projections.job import Metrics
from tests.core import ANSWER, BODY, STREAM, opened, submit


def test_artifact_knows_size_and_digest_of_its_plain_bytes():
    item = artifact("completion", "application/json", b"hello")
    assert (item.ref.size, item.ref.sha256) == (5, hashlib.sha256(b"hello").hexdigest())


@pytest.mark.parametrize("data", [b"", b"\x00\xff", b"x" * 100_000], ids=["empty", "binary", "long"])
@pytest.mark.parametrize("name", [contents.COMPLETION, contents.STREAM])
async def test_bytes_come_back_as_they_went_in(tmp_path, name, data):
    kept = artifact(name, "application/octet-stream", data)
    async with opened(tmp_path) as core:
        job_id = await core.submitted()
        await core.do(StartWorking(job_id=job_id), FinishJob(job_id=job_id, metrics=Metrics(), artifacts=(kept,)))
        assert await contents.find(core.database.read, job_id, name) == kept


async def test_stream_takes_less_room_than_its_bytes(tmp_path):
    stream = artifact(contents.STREAM, contents.NDJSON, STREAM.data * 1_000)
    assert len(contents.row("J", stream)[-1]) < stream.ref.size / 10
    assert contents.row("J", ANSWER)[-1] is ANSWER.data


async def test_only_small_artifacts_are_shown_inline_and_never_request_or_stream(tmp_path):
    async with opened(tmp_path) as core:
        job_id = await core.submitted()
        completion = artifact(contents.COMPLETION, contents.JSON, b"x" * 101)
        await core.do(StartWorking(job_id=job_id))
        await core.do(FinishJob(job_id=job_id, metrics=Metrics(), artifacts=(completion, STREAM)))
        assert await contents.inline(core.database.read, job_id, 100) == {}
        assert await contents.inline(core.database.read, job_id, 101) == {contents.COMPLETION: completion.data}


async def test_expired_contents_are_gone_and_nobody_elses(tmp_path):
    async with opened(tmp_path) as core:
        await core.do(submit("A"), submit("B"), CancelJob(job_id="A", by=CancelledBy.API))
        await core.do(ExpireJob(job_id="A"))
        assert await contents.find(core.database.read, "A", contents.REQUEST) is None
        assert await contents.find(core.database.read, "B", contents.REQUEST) == BODY
