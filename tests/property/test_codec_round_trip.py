"""Any event of any type survives being stored, and any text either decodes or is an error that names the type."""

from __future__ import annotations

from enum import Enum
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foreman.clock import Micros
from foreman.errors import LogError
from foreman.events.codec import CODEC, chain_hash
from foreman.events.daemon import DAEMON_EVENTS
from foreman.events.types import JOB_EVENTS

PLAIN = {
    str: st.text(),
    bool: st.booleans(),
    int: st.integers(-(2**63), 2**63 - 1),
    float: st.floats(allow_nan=False, allow_infinity=False),
    Micros: st.integers(0, 2**53),
    NoneType: st.none(),
}


def values(kind: Any) -> st.SearchStrategy[Any]:
    """Values of an annotation as the events use them."""
    if kind in PLAIN:
        return PLAIN[kind]
    if get_origin(kind) in {UnionType, Union}:
        return st.one_of([values(option) for option in get_args(kind)])
    if get_origin(kind) is tuple:
        return st.lists(values(get_args(kind)[0]), max_size=3).map(tuple)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return st.sampled_from(kind)
    hints = get_type_hints(kind)
    return st.builds(kind, **{name: values(hints[name]) for name in kind.__struct_fields__})


EVENTS = JOB_EVENTS + DAEMON_EVENTS


@pytest.mark.parametrize("kind", EVENTS, ids=lambda kind: kind.type)
@settings(deadline=None)
@given(data=st.data())
def test_event_comes_back_as_it_was_stored(kind, data):
    event = data.draw(values(kind))
    text = CODEC.encode(event)
    assert CODEC.decode(kind.type, text) == event
    # However another writer spaces it, it means the same.
    assert CODEC.decode(kind.type, orjson.dumps(orjson.loads(text), option=orjson.OPT_INDENT_2).decode()) == event


@settings(deadline=None)
@given(st.sampled_from(EVENTS), st.one_of(st.text(), st.from_regex(r'\{"v":[0-9]+(,"[a-z]+":[a-z0-9"]+)*\}?')))
def test_any_text_decodes_or_is_an_error_that_names_the_type(kind, text):
    try:
        found = CODEC.decode(kind.type, text)
    except LogError as error:
        found = error
    assert isinstance(found, kind) or kind.type in str(found)


@given(st.binary(min_size=32, max_size=32), st.text(), st.text(), st.integers(1), st.integers(1))
def test_every_member_of_an_event_counts_in_its_hash(previous, text, other, position, version):
    base = (position, "J", version, "job.failed", 1, text)
    changed = [
        (position + 1, *base[1:]),
        (position, "K", *base[2:]),
        (*base[:2], version + 1, *base[3:]),
        (*base[:3], "job.done", *base[4:]),
        (*base[:4], 2, text),
        (*base[:5], text + "x"),
    ]
    hashes = [chain_hash(previous, *one) for one in (base, *changed)]
    assert len(set(hashes)) == len(hashes)
    assert (chain_hash(previous, *base[:5], other) == hashes[0]) is (other == text)
