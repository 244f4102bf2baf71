"""What somebody outside remembers of the log, so that a tail cut off or written anew shows. Opens no file."""

from __future__ import annotations

from typing import Final, NamedTuple, Self

HEX: Final = 64


class Witness(NamedTuple):
    """An event's position and its hash, as `GET /audit/head`, a webhook or a job object told them."""

    position: int
    hash: bytes

    @classmethod
    def of(cls, text: str) -> Self:
        """The witness written as `POSITION:HASH`. Raises ValueError."""
        position, _, digest = text.strip().partition(":")
        if not (position.isascii() and position.isdecimal() and len(position) < 19):
            raise ValueError(f"{text.strip()!r}: a witness is POSITION:HASH, as in 4711:9f86d0…")
        if len(digest) != HEX or not digest.isascii():
            raise ValueError(f"{text.strip()!r}: the hash is {HEX} hexadecimal digits")
        return cls(int(position), bytes.fromhex(digest))


def witnesses_in(text: str) -> list[Witness]:
    """Those of a text with one on each line; blank lines and those that begin with # are none. Raises ValueError."""
    lines = [line.strip() for line in text.splitlines()]
    return [Witness.of(line) for line in lines if line and not line.startswith("#")]
