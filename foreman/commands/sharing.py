"""Who folds: this process, or a second one as soon as the log proves to be long. Knows nothing of rows."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from types import TracebackType
from typing import Final, Self

from foreman.commands.refolding import Batch, Chunk, Folding
from foreman.processes import SecondProcess, cores

#: A process takes as long to start as so many events take to be folded.
WORTH_A_PROCESS: Final = 30_000
#: It is started so many events earlier than it is needed.
AHEAD: Final = 20_000


class Sharing:
    """A folding, wherever it is: each answer is taken when the next question is there.

    `worth_a_process` is the number of events from which on a second process folds; usually WORTH_A_PROCESS, and never
    on a single core.
    """

    def __init__(self, folding: Folding | None = None, worth_a_process: int | None = None) -> None:
        self._folding = folding or Folding()
        usual = WORTH_A_PROCESS if cores() > 1 else sys.maxsize
        self._left = usual if worth_a_process is None else worth_a_process
        self._second: SecondProcess | None = None
        self._open = ExitStack()
        #: The answer that was given here and nobody has taken yet; None once the second process gives them.
        self._answer: list[Batch] | None = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._open.close()

    def exchange(self, chunk: Chunk) -> list[Batch]:
        """Have a chunk folded; what the one before it came to.

        Raises LogCorrupt or UnknownEvent, naming the position, now or when its answer is due; DatabaseUnusable if the
        second process was ended.
        """
        if self._second is None and self._left <= AHEAD:
            self._second = self._open.enter_context(SecondProcess("foreman rebuild"))
        if self._second is not None and self._answer is None:
            answer: list[Batch] = self._second.exchange(chunk)
            return answer
        before, self._answer = self._answer or [], None
        if self._second is not None and self._left <= 0:
            self._second.begin(self._folding.answer, chunk)
        else:
            self._answer = self._folding.answer(chunk)
            self._left -= len(chunk.columns[0]) if chunk.columns else 0
        return before
