"""Idempotency keys as read back: their jobs in the order of submission, and only the keys asked for."""

from __future__ import annotations

from foreman.projections import keys
from foreman.projections.keys import KnownKey
from tests.core import opened, submit


async def test_key_stands_for_its_jobs_in_the_order_they_were_submitted(tmp_path):
    async with opened(tmp_path) as core:
        await core.do(submit("C", "A", "B", key="k", fingerprint="f"), submit("D", key="other"), submit("E"))
        found = await keys.find(core.database.read, ["k", "unknown"])
    assert found == {"k": KnownKey(fingerprint="f", job_ids=("C", "A", "B"))}


async def test_long_batch_keeps_its_order(tmp_path):
    ids = [f"J{number:04}" for number in reversed(range(1_000))]
    async with opened(tmp_path) as core:
        await core.do(submit(*ids, key="k"))
        found = await keys.find(core.database.read, ["k"])
    assert list(found["k"].job_ids) == ids
