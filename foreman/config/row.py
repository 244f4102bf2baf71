"""One row of the table of settings, as data for help, documents and faults. Knows no setting by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Self, get_args, get_origin

import annotated_types
from pydantic.fields import FieldInfo

from foreman.config.kinds import Words


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What a person is told about one variable."""

    variable: str
    attribute: str
    default: str
    description: str
    allowed: str
    #: What the attribute counts in (`s`, `bytes`); empty if it counts nothing.
    unit: str
    group: str
    #: The value must not be shown to anybody.
    secret: bool

    @classmethod
    def of(cls, attribute: str, field: FieldInfo) -> Self:
        """The row that `field` declares."""
        extra = field.json_schema_extra
        words = _words(field)
        return cls(
            variable=field.alias or "",
            attribute=attribute,
            default=str(field.default),
            description=field.description or "",
            allowed=words.allowed + _bounds(field, words),
            unit=words.unit,
            group=str(extra["group"]) if isinstance(extra, dict) else "",
            secret=words.secret,
        )


def _words(field: FieldInfo) -> Words:
    if get_origin(field.annotation) is Literal:
        return Words(" or ".join(get_args(field.annotation)))
    return next(item for item in field.metadata if isinstance(item, Words))


def _bounds(field: FieldInfo, words: Words) -> str:
    low = _bound(field, annotated_types.Ge, "ge")
    high = _bound(field, annotated_types.Le, "le")
    if low is None:
        return ""
    if high is not None:
        return f", from {words.write(low)} to {words.write(high)}"
    return f", at least {words.write(low)}" if low else ", not negative"


def _bound(field: FieldInfo, kind: type, name: str) -> Any:
    return next((getattr(item, name) for item in field.metadata if isinstance(item, kind)), None)
