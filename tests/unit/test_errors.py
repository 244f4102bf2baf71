"""Errors: what they say when nobody says more, and what stays stable."""

from __future__ import annotations

from foreman.errors import ForemanError, QueueFull, StorageFull, TargetRefused


def test_error_says_what_it_is_unless_told_otherwise():
    assert str(QueueFull()) == "The queue is full."
    assert str(QueueFull("100,000 jobs wait")) == "100,000 jobs wait"


def test_hint_is_the_operators_next_step_or_empty():
    assert "free some space" in StorageFull.hint
    assert ForemanError.hint == ""


def test_refusal_carries_the_targets_own_answer():
    error = TargetRefused("no", status=404, body=b'{"error":"no"}', content_type="application/json")
    assert (str(error), error.status, error.body, error.content_type) == (
        "no", 404, b'{"error":"no"}', "application/json",
    )  # fmt: skip
