"""Kinds of values that several commands take."""

from __future__ import annotations

from typing import Any

import click

from foreman.durations import duration_s


class Duration(click.ParamType[float]):
    """A duration in Go's writing, in seconds; none is negative."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """`90s`, `5m`, `1h30m`."""
        if isinstance(value, float):
            return value
        try:
            seconds = duration_s(str(value))
        except ValueError as error:
            self.fail(f"{value!r} is no duration such as 30s, 5m or 1h30m: {error}", param, ctx)
        if seconds < 0:
            self.fail("it must not be negative", param, ctx)
        return seconds
