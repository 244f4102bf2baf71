"""One day of a foreman under Prometheus's eyes, lived through once for all tests that ask what was seen."""

from __future__ import annotations

import asyncio

import pytest

from tests.ops.day import Record, watched


@pytest.fixture(scope="session")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Record:
    return asyncio.run(watched(tmp_path_factory.mktemp("day")))
