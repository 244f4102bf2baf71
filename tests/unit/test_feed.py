"""The feed: who is woken by what, and in which order its listeners hear."""

from __future__ import annotations

from foreman.events.feed import OUTBOX, Feed
from tests.core import DEGRADED, QUEUED, WORKING, recorded


def test_listeners_hear_every_event_in_order_after_the_head_has_moved():
    feed = Feed()
    heard = []
    feed.listeners.append(lambda item: heard.append((item.position, feed.position)))
    feed.publish(recorded(QUEUED, WORKING))
    assert heard == [(1, 2), (2, 2)]


def test_every_event_wakes_those_who_watch_all():
    feed = Feed()
    with feed.watch() as one, feed.watch() as other:
        feed.publish(recorded(DEGRADED, stream="daemon"))
        assert one.is_set()
        assert other.is_set()


def test_event_wakes_those_who_watch_its_stream_and_no_other():
    feed = Feed()
    with feed.watch("J") as mine, feed.watch("K") as theirs:
        feed.publish(recorded(QUEUED))
        assert (mine.is_set(), theirs.is_set()) == (True, False)


def test_nothing_published_wakes_nobody():
    feed = Feed()
    with feed.watch() as wake:
        feed.publish([])
        assert (wake.is_set(), feed.position) == (False, 0)


def test_watcher_that_has_left_is_woken_no_more_and_leaves_nothing_behind():
    feed = Feed()
    with feed.watch("J") as stays:
        with feed.watch("J") as leaves:
            pass
        feed.publish(recorded(QUEUED))
        assert (stays.is_set(), leaves.is_set()) == (True, False)
    assert not feed._watchers


def test_outbox_wakes_its_consumer_alone_and_without_an_event():
    feed = Feed()
    with feed.watch(OUTBOX) as consumer, feed.watch() as everybody:
        feed.publish(recorded(QUEUED))
        assert (consumer.is_set(), everybody.is_set()) == (False, True)
        everybody.clear()
        feed.wake(OUTBOX)
        assert (consumer.is_set(), everybody.is_set()) == (True, False)
