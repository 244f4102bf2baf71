"""The event types themselves: what is stable about them, and which streams they belong to."""

from __future__ import annotations

import re

import pytest

from foreman.events.daemon import DAEMON_EVENTS
from foreman.events.types import JOB_EVENTS, Endpoint
from tests.core import SAMPLES


def test_types_are_stable_names_and_each_stands_for_one_event():
    names = [cls.type for cls in JOB_EVENTS + DAEMON_EVENTS]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"(target|model|daemon)\.[a-z]+", cls.type) for cls in DAEMON_EVENTS)
    assert all(re.fullmatch(r"job\.[a-z]+", cls.type) for cls in JOB_EVENTS)


@pytest.mark.parametrize("event", SAMPLES, ids=lambda event: event.type)
def test_event_cannot_be_changed(event):
    with pytest.raises(AttributeError, match="immutable"):
        setattr(event, event.__struct_fields__[0], None)


def test_endpoint_is_a_route_of_the_target():
    assert [endpoint.path for endpoint in Endpoint] == ["/api/chat", "/api/generate"]
