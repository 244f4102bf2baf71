"""What the receiver for trying out says of each delivery: its signature, repeats, gaps and order."""

from __future__ import annotations

import orjson
import pytest

from foreman.cli.webhook_arrivals import Judge, Payload, Signature, Verdict, read
from foreman.signing import Signer

SECRET = "hush,whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
NOW_S = 1_700_000_000


def payload(version: int = 1, job_id: str = "A") -> Payload:
    return Payload(job_id=job_id, state="queued", version=version)


def judged(judge: Judge, version: int, job_id: str = "A") -> Verdict:
    """The verdict on an unsigned delivery with foreman's own id."""
    return judge.judge(payload(version, job_id), b"{}", {"webhook-id": f"{job_id}-{version}"}, NOW_S)


def notes(judge: Judge, *versions: int) -> list[object]:
    """What is remarkable of each delivery of one job."""
    found = []
    for version in versions:
        verdict = judged(judge, version)
        words = ["repeat"] * verdict.repeat + ["late"] * verdict.out_of_order
        found.append(verdict.gap or " ".join(words))
    return found


@pytest.mark.parametrize(
    ("versions", "expected"),
    [
        ((1, 2, 3), ["", "", ""]),
        ((1, 1, 2), ["", "repeat", ""]),
        ((1, 2, 1, 3), ["", "", "repeat", ""]),
        ((1, 3, 4), ["", (2, 2), ""]),
        ((1, 5, 5), ["", (2, 4), "repeat"]),
        ((3, 4), [(1, 2), ""]),
        ((1, 3, 2, 2), ["", (2, 2), "late", "repeat"]),
        ((1, 2**62), ["", (2, 2**62 - 1)]),
    ],
)
def test_repeats_gaps_and_order_of_one_job(versions, expected):
    assert notes(Judge(None), *versions) == expected


def test_jobs_do_not_mix():
    judge = Judge(None)
    judged(judge, 1, "A")
    assert judged(judge, 1, "B") == judged(judge, 2, "A") == Verdict(signature=Signature.NONE)


def test_a_delivery_without_an_id_is_known_by_job_and_version():
    judge = Judge(None)
    judge.judge(payload(1), b"{}", {}, NOW_S)
    assert judge.judge(payload(1), b"{}", {}, NOW_S).repeat
    assert judged(judge, 1).repeat


def test_the_tally_counts_what_was_said():
    judge = Judge(None)
    notes(judge, 1, 4, 4, 2, 8)
    assert judge.tally == {"deliveries": 5, "repeats": 1, "gaps": 2, "none": 5}


def test_only_so_many_jobs_and_ids_are_remembered():
    judge = Judge(None, most_jobs=3, most_ids=5)
    for number in range(50):
        judged(judge, 1, f"job {number}")
        judged(judge, 1, "lively")
    assert len(judge._highest) == 3
    assert len(judge._ids) == 5
    assert judged(judge, 1, "lively").repeat
    assert not judged(judge, 1, "job 0").repeat


@pytest.mark.parametrize("signing", ["hush", SECRET, SECRET.partition(",")[2]])
def test_a_right_signature_is_ok(signing):
    headers = Signer.of(signing).headers("A-1", NOW_S, b"{}")
    assert Judge(SECRET).judge(payload(), b"{}", headers, NOW_S) == Verdict(signature=Signature.OK)


@pytest.mark.parametrize(
    ("secret", "body", "at_s", "why"),
    [
        ("other", b"{}", NOW_S, "x-foreman-signature does not fit"),
        ("hush", b"{ }", NOW_S, "x-foreman-signature does not fit"),
        (SECRET.partition(",")[2], b"{}", NOW_S + 301, "301 s old"),
    ],
)
def test_a_wrong_signature_comes_with_its_fault(secret, body, at_s, why):
    headers = Signer.of(SECRET).headers("A-1", NOW_S, b"{}")
    verdict = Judge(secret).judge(payload(), body, headers, at_s)
    assert verdict.signature is Signature.WRONG
    assert why in verdict.why


def test_a_signature_is_not_called_right_unless_there_is_a_secret():
    headers = Signer.of(SECRET).headers("A-1", NOW_S, b"{}")
    assert Judge(None).judge(payload(), b"{}", headers, NOW_S).signature is Signature.UNCHECKED


@pytest.mark.parametrize("secret", [None, SECRET])
def test_an_unsigned_delivery_is_called_so(secret):
    headers = Signer().headers("A-1", NOW_S, b"{}")
    assert Judge(secret).judge(payload(), b"{}", headers, NOW_S).signature is Signature.NONE


def test_unknown_members_of_a_payload_do_no_harm():
    found, whole = read(b'{"job_id":"A","state":"done","version":4,"log_hash":"ab","later":[1]}')
    assert (found.job_id, found.state, found.version, found.model) == ("A", "done", 4, None)
    assert whole["later"] == [1]


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        (b"", "not JSON"),
        (b"hello", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[" * 300 + b"]" * 300, "not JSON"),
        (b"[]", "dictionary"),
        (b"null", "dictionary"),
        (b"{}", "job_id: Field required"),
        (b'{"job_id":"A","state":"done"}', "version: Field required"),
        (b'{"job_id":"A","state":"done","version":"1"}', "version: Input should be a valid integer"),
        (b'{"job_id":"A","state":"done","version":true}', "version: Input should be a valid integer"),
        (b'{"job_id":"A","state":"done","version":0}', "version: Input should be greater"),
        (b'{"job_id":7,"state":"done","version":1}', "job_id: Input should be a valid string"),
        (orjson.dumps({"job_id": "A" * 201, "state": "done", "version": 1}), "job_id: String should have at most 200"),
    ],
)
def test_what_is_no_webhook_of_foremans_is_told_why(body, fault):
    with pytest.raises(ValueError, match=fault):
        read(body)
