"""What somebody outside remembers of the log, so that a tail cut off or written anew shows. Opens no file."""

from __future__ import annotations

import re
from typing import Final, NamedTuple, Self

WRITTEN: Final = re.compile(r"([0-9]{1,18}):([0-9a-fA-F]{64})")


class Witness(NamedTuple):
    """An event's position and its hash, as `GET /audit/head`, a webhook or a job object told them."""

    position: int
    hash: bytes

    @classmethod
    def of(cls, text: str) -> Self:
        """The witness written as `POSITION:HASH`. Raises ValueError."""
        found = WRITTEN.fullmatch(text.strip())
        if found is None:
            raise ValueError(f"{text.strip()!r}: a witness is POSITION:HASH, the hash in 64 hexadecimal digits")
        return cls(int(found[1]), bytes.fromhex(found[2]))


def witnesses_in(text: str) -> list[Witness]:
    """Those of a text with one on each line; blank lines and those that begin with # are none. Raises ValueError."""
    lines = [line.strip() for line in text.splitlines()]
    return [Witness.of(line) for line in lines if line and not line.startswith("#")]
