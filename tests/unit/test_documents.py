"""A job's parts as JSON: what a caller and a receiver are shown alike."""

from __future__ import annotations

import orjson
import pytest
from msgspec.structs import replace

from foreman.clock import Micros
from foreman.projections import documents
from tests.core import ANSWER, CANCELLED, DONE, FAILED, QUEUED, REQUEUED, STREAM, WORKING, job_after

URL = "http://foreman/jobs/J"


def test_time_is_utc_text_or_null():
    assert documents.time(Micros(1_500_000)) == "1970-01-01T00:00:01.500000Z"
    assert documents.time(None) is None


@pytest.mark.parametrize(
    ("history", "error"),
    [
        ((QUEUED, WORKING, DONE), None),
        ((QUEUED, WORKING, REQUEUED), None),
        ((QUEUED, FAILED), {"message": FAILED.error, "code": FAILED.code, "status": 404}),
        ((QUEUED, CANCELLED), {"message": "the job was cancelled", "code": "cancelled", "by": "api"}),
    ],
    ids=["done", "queued again", "failed", "cancelled"],
)
def test_only_what_ended_a_job_is_its_error(history, error):
    assert documents.error(job_after(*history)) == error


def test_result_is_in_seconds_and_null_before_there_is_one():
    done = replace(DONE, load_duration=6_338_219_291, eval_duration=0, first_token_s=0.25)
    result = documents.result(job_after(QUEUED, WORKING, done).metrics)
    assert (result["load_seconds"], result["eval_seconds"], result["first_token_seconds"]) == (6.338219291, 0.0, 0.25)
    assert (result["prompt_eval_seconds"], result["generated_tokens"]) == (None, 5)
    assert documents.result(None) is None


@pytest.mark.parametrize(("base", "url"), [("http://foreman", "http://foreman/jobs/J"), ("", "/jobs/J")])
def test_job_is_relative_if_nobody_knows_how_foreman_is_reached(base, url):
    assert documents.job_url("J", base) == url


def test_artifact_has_its_digest_and_where_it_is():
    assert documents.artifact(ANSWER.ref, URL, {}) == {
        "name": "completion",
        "content_type": "application/json",
        "size": ANSWER.ref.size,
        "sha256": ANSWER.ref.sha256,
        "url": f"{URL}/artifacts/completion",
    }


def test_artifact_that_is_json_is_shown_byte_for_byte():
    shown = documents.artifact(ANSWER.ref, URL, {"completion": b'{"n":1.0, "n":1e2}'})
    assert b'"data":{"n":1.0, "n":1e2}' in orjson.dumps(shown)


def test_artifact_that_is_no_json_is_never_shown():
    assert "data" not in documents.artifact(STREAM.ref, URL, {"stream": b'{"n":1}\n{"n":2}\n'})
