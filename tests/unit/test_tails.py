"""Tails: what a running answer's followers see, through new runs and to its end."""

from __future__ import annotations

import asyncio

from foreman.tails import Ending, Tail, Tails


def test_run_holds_what_the_target_said_in_the_pieces_it_came_in():
    tail = Tail()
    tail.restart(1)
    tail.begin(200, "application/x-ndjson")
    tail.write(b"a")
    tail.write(b"b")
    tail.end(Ending.COMPLETE)
    run = tail.run
    assert (run.number, run.status, run.content_type) == (1, 200, "application/x-ndjson")
    assert (run.chunks, run.ending) == ([b"a", b"b"], Ending.COMPLETE)


def test_new_run_starts_from_nothing_and_leaves_the_old_one_to_who_holds_it():
    tail = Tail()
    old = tail.restart(1)
    tail.write(b"a")
    tail.end(Ending.BROKEN)
    new = tail.restart(2)
    assert tail.run is new
    assert (new.number, new.status, new.chunks, new.ending) == (2, None, [], None)
    assert old.chunks == [b"a"]


def test_every_change_wakes_every_follower():
    tail = Tail()
    changes = (
        lambda: tail.restart(1),
        lambda: tail.begin(200, ""),
        lambda: tail.write(b"a"),
        lambda: tail.end(Ending.COMPLETE),
        tail.close,
    )
    with tail.watch() as one, tail.watch() as other:
        for change in changes:
            one.clear()
            other.clear()
            change()
            assert one.is_set()
            assert other.is_set()


def test_follower_that_has_left_is_woken_no_more():
    tail = Tail()
    with tail.watch() as wake:
        pass
    tail.write(b"a")
    assert not wake.is_set()


async def test_slow_follower_misses_nothing():
    tail = Tail()

    async def follow() -> bytes:
        seen: list[bytes] = []
        with tail.watch() as changed:
            while not (tail.closed and len(seen) == len(tail.run.chunks)):
                changed.clear()
                seen += tail.run.chunks[len(seen) :]
                if not tail.closed:
                    await changed.wait()
        return b"".join(seen)

    tail.restart(1)
    follower = asyncio.create_task(follow())
    for number in range(100):
        tail.write(bytes([number]))
        if number % 7 == 0:
            await asyncio.sleep(0)
    tail.close()
    assert await follower == bytes(range(100))


def test_job_has_one_tail_until_it_is_over():
    tails = Tails()
    tail = tails.open("J")
    assert tails.open("J") is tail is tails.get("J")
    assert (list(tails), len(tails)) == (["J"], 1)
    tails.close("J")
    assert tail.closed
    assert (tails.get("J"), len(tails)) == (None, 0)


def test_closing_an_unknown_tail_is_harmless():
    Tails().close("J")
