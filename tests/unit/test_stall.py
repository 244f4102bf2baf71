"""When silence is too long: counted between signs of life, only while somebody looked on."""

from __future__ import annotations

import asyncio

import pytest

from foreman.clock import SystemClock
from foreman.target.wedge import Question
from foreman.worker.stall import SLICES, UNSEEN, Patience, Silence, Stalled, breaking
from tests.core import HandClock


class Call:
    """A silence on a clock that the test moves, looked at once a slice as the loop does."""

    def __init__(self, start_s: float, between_s: float) -> None:
        self.clock = HandClock()
        self.signs = 0
        self.silence = Silence(Patience(start_s=start_s, between_s=between_s), self.clock, self.sign)

    def sign(self) -> None:
        self.signs += 1

    def after(self, seconds: float) -> bool:
        self.clock.at += round(seconds * 1_000_000)
        return self.silence.is_too_long()

    def stalls_after(self, most_s: float) -> float | None:
        """Seconds until the call counts as stalled."""
        slice_s = self.silence.slice_s
        number = next((n for n in range(1, round(most_s / slice_s) + 1) if self.after(slice_s)), None)
        return None if number is None else number * slice_s


@pytest.mark.parametrize(("begun", "limit_s"), [(False, 300), (True, 120)], ids=["first-byte", "between"])
def test_call_stalls_when_its_limit_has_passed_without_a_byte(begun, limit_s):
    call = Call(300, 120)
    call.silence.ended(begun=begun)
    assert call.stalls_after(1_000) == limit_s
    assert call.silence.lasted_s == limit_s


def test_byte_now_and_then_is_enough():
    call = Call(300, 120)
    for _ in range(50):
        assert call.stalls_after(108) is None
        call.silence.ended()
    assert call.signs == 50
    assert call.stalls_after(120) == 120


def test_status_line_is_a_sign_of_life_and_no_beginning():
    call = Call(300, 120)
    assert call.stalls_after(240) is None
    call.silence.ended(begun=False)
    assert call.stalls_after(1_000) == 300


@pytest.mark.parametrize(
    ("limits", "begun"), [((0, 120), False), ((300, 0), True)], ids=["no-limit-to-begin", "no-limit-between"]
)
def test_limit_of_zero_is_none(limits, begun):
    call = Call(*limits)
    call.silence.ended(begun=begun)
    assert call.stalls_after(100_000) is None


def test_two_limits_of_zero_need_no_looking():
    call = Call(0, 0)
    assert call.silence.slice_s is None
    assert not call.after(100_000)


@pytest.mark.parametrize("asleep_s", [25, 3_600])
def test_time_in_which_nobody_looked_on_is_not_counted(asleep_s):
    call = Call(300, 120)
    call.silence.ended()
    assert call.stalls_after(108) is None
    assert not call.after(asleep_s)
    assert call.stalls_after(108) is None
    assert call.stalls_after(24) == 12


def test_answer_out_of_sight_has_longer():
    patience = Patience(start_s=300, between_s=0).for_the_unseen()
    assert (patience.start_s, patience.between_s) == (300 * UNSEEN, 0) == (3_600, 0)


async def test_silence_that_is_too_long_ends_the_block():
    silence = Silence(Patience(start_s=0.05, between_s=0), SystemClock(), lambda: None)
    with pytest.raises(Stalled, match="said nothing for") as raised:
        async with breaking(silence):
            await asyncio.Event().wait()
    assert raised.value.silent_s >= 0.05
    assert not raised.value.begun


async def test_block_that_ends_or_fails_by_itself_is_let():
    patience = Patience(start_s=300, between_s=120)
    async with breaking(Silence(patience, SystemClock(), lambda: None)):
        pass
    with pytest.raises(TimeoutError, match="another"):
        async with breaking(Silence(patience, SystemClock(), lambda: None)):
            raise TimeoutError("another")


async def test_block_that_is_cancelled_is_not_stalled():
    async def wait() -> None:
        async with breaking(Silence(Patience(start_s=300, between_s=120), SystemClock(), lambda: None)):
            await asyncio.Event().wait()

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_slices_are_a_part_of_the_shorter_limit():
    assert Call(300, 120).silence.slice_s == 120 / SLICES


def test_a_probe_asks_only_for_options_that_a_target_can_have_loaded_a_model_with():
    question = Question.like("a", {"num_ctx": "\ud800", "num_gpu": 1, "use_mmap": False, "temperature": 2})
    assert b'"num_gpu":1' in question.body()
    assert question.options == {"num_gpu": 1, "use_mmap": False}
