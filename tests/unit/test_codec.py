"""Events to stored text and back: today's shape, older ones through upcasters, and errors that name what they found."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import ClassVar

import orjson
import pytest
from msgspec.structs import replace

from foreman.errors import LogCorrupt, RequestInvalid, UnknownEvent
from foreman.events import log
from foreman.events.codec import CODEC, GENESIS, Codec, chain_hash
from foreman.events.daemon import DAEMON_EVENTS
from foreman.events.types import JOB_EVENTS, Event
from foreman.projections.job import fold
from tests.core import FAILED, SAMPLES

GOLDEN = orjson.loads((Path(__file__).parents[1] / "golden" / "events.json").read_bytes())
TYPES = [cls.type for cls in JOB_EVENTS + DAEMON_EVENTS]


class Moved(Event, frozen=True, kw_only=True):
    """An event of the third generation: metres were once feet, and the place was once called otherwise."""

    type: ClassVar[str] = "thing.moved"
    schema: ClassVar[int] = 3

    place: str
    metres: float


def feet_to_metres(members):
    return {**members, "metres": members["feet"] * 0.3048}


MOVED = Codec(
    (Moved,),
    {
        ("thing.moved", 1): lambda members: {"place": members["to"], "feet": members["feet"]},
        ("thing.moved", 2): feet_to_metres,
    },
)


def golden_rows():
    return [
        (
            row["position"],
            row["stream"],
            row["version"],
            row["type"],
            row["at"],
            row["data"],
            bytes.fromhex(row["hash"]),
        )
        for row in GOLDEN
    ]


def test_samples_cover_every_event_type():
    assert [event.type for event in SAMPLES] == TYPES


@pytest.mark.parametrize("event", SAMPLES, ids=lambda event: event.type)
def test_event_comes_back_as_it_was_stored(event):
    assert CODEC.decode(event.type, CODEC.encode(event)) == event


@pytest.mark.parametrize("event", SAMPLES, ids=lambda event: event.type)
def test_stored_text_begins_with_its_schema_version(event):
    assert CODEC.encode(event).startswith(f'{{"v":{event.schema}')


def test_golden_log_has_every_event_type():
    assert {row["type"] for row in GOLDEN} == set(TYPES)


@pytest.mark.parametrize("row", GOLDEN, ids=lambda row: f"{row['position']}-{row['type']}")
def test_event_stored_by_the_first_release_still_decodes(row):
    event = CODEC.decode(row["type"], row["data"])
    stored = orjson.loads(row["data"])
    assert stored.pop("v") == 1
    if event.schema == 1:  # else an upcaster has given the members another form
        assert stored.items() <= orjson.loads(CODEC.members(event)).items()


def test_hash_chain_of_the_golden_log_holds_from_its_first_event_on():
    hash_ = GENESIS
    for *head, stored in golden_rows():
        hash_ = chain_hash(hash_, *head)
        assert stored == hash_


def test_golden_log_folds_into_jobs():
    folded = {}
    for item in map(log.from_row, golden_rows()):
        if item.stream != "daemon":
            folded[item.stream] = fold(folded.get(item.stream), item)
    assert sorted(job.state for job in folded.values()) == ["cancelled", "done", "expired", "expired", "failed"]


def test_hash_is_that_of_the_bytes_the_format_names():
    expected = hashlib.sha256(bytes(32) + b'1\nJ\n1\njob.cancelled\n5\n{"v":1,"by":"api"}').digest()
    assert chain_hash(GENESIS, 1, "J", 1, "job.cancelled", 5, '{"v":1,"by":"api"}') == expected


@pytest.mark.parametrize(
    "text",
    [
        '{"v":3,"place":"here","metres":3.048}',
        '{"v":2,"place":"here","feet":10}',
        '{"v":1,"to":"here","feet":10}',
        '{ "v": 1, "feet": 10, "to": "here" }',
    ],
    ids=["today", "one older", "oldest", "oldest, spaced"],
)
def test_every_generation_decodes_to_todays_shape(text):
    assert MOVED.decode("thing.moved", text) == Moved(place="here", metres=10 * 0.3048)


def test_member_added_with_a_default_needs_no_new_generation():
    assert CODEC.decode("job.failed", '{"v":1,"attempt":1,"error":"x","code":"y"}') == replace(
        FAILED, error="x", code="y", status=None
    )


def test_member_unknown_to_this_version_is_ignored():
    assert CODEC.decode("daemon.stopped", '{"v":1,"waiting":2,"mood":"good"}') == SAMPLES[-1]


@pytest.mark.parametrize(
    ("codec", "type_", "text", "named"),
    [
        (CODEC, "job.vanished", "{}", "'job.vanished'"),
        (CODEC, "job.failed", '{"v":2}', "job.failed in schema version 2; this foreman knows up to 1"),
        (CODEC, "job.failed", '{"v":10,"attempt":1}', "schema version 10"),
        (CODEC, "job.failed", '{"v":0}', "no upcaster leads from version 0 of job.failed to 1"),
        (MOVED, "thing.moved", '{"v":-1}', "no upcaster leads from version -1 of thing.moved to 3"),
    ],
)
def test_event_of_an_unknown_kind_is_refused_by_name(codec, type_, text, named):
    with pytest.raises(UnknownEvent, match=named):
        codec.decode(type_, text)


@pytest.mark.parametrize(
    "text",
    ["", "garbage", "[]", "null", '"v"', "{}", '{"v":"1"}', '{"v":true,"attempt":1,"error":"x","code":"y"}', '{"v":1}',
     '{"v":1,"attempt":"x"}', '{"v":1,"attempt":1,"error":"x"', '{"v":1,"attempt":1,"error":"x","code":null}',
     '{"v":1,"attempt":"1","error":"x","code":"y"}', '{"v":1,"attempt":1.0,"error":"x","code":"y"}',
     f'{{"v":1,"attempt":{"[" * 100_000}', f'{{"v":1,"attempt":{2**63},"error":"x","code":"y"}}',
     f'{{"v":1,"attempt":{-(10**400)},"error":"x","code":"y"}}'],
    ids=lambda text: text[:60],
)  # fmt: skip
def test_text_that_is_no_event_is_corruption_that_names_the_type(text):
    with pytest.raises(LogCorrupt, match=r"job\.failed"):
        CODEC.decode("job.failed", text)


def test_upcaster_that_misses_a_member_is_corruption_not_a_missing_upcaster():
    with pytest.raises(LogCorrupt, match=r"thing\.moved.*'feet'"):
        MOVED.decode("thing.moved", '{"v":2,"place":"here"}')


@pytest.mark.parametrize("error", ["half a pair: \ud800", "\udcff"])
def test_event_that_json_cannot_hold_is_refused_by_name(error):
    with pytest.raises(RequestInvalid, match=r"job\.failed"):
        CODEC.encode(replace(FAILED, error=error))


def test_event_without_members_is_stored_with_its_version_alone():
    class Ticked(Event, frozen=True, kw_only=True):
        type: ClassVar[str] = "clock.ticked"

    codec = Codec((Ticked,))
    assert codec.encode(Ticked()) == '{"v":1}'
    assert codec.decode("clock.ticked", '{"v":1}') == Ticked()
