"""A second process of this program, for long work that two cores can share. Knows nothing of the work.

It is spawned: a fork would take the parent's connections and threads with it. Ctrl-C reaches both processes of a
terminal; here only the parent hears it, and ends this one.
"""

from __future__ import annotations

import gc
import os
import pickle
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Final, Self

from foreman.errors import DatabaseBroke, ForemanError

#: How long it is given to end by itself once it is told to.
PATIENCE_S: Final = 5.0


class Spawned:
    """A process that runs `work` with its end of a pipe. It ends with the block, whatever ends that."""

    def __init__(self, name: str, work: Callable[..., None], *arguments: Any) -> None:
        """`arguments` follow the pipe; large ones come by it: while they are written, nobody sees that it has died."""
        context = get_context("spawn")
        self._name = name
        self._here, self._there = context.Pipe()
        self._process = context.Process(target=_run, args=(work, self._there, arguments), name=name, daemon=True)

    def __enter__(self) -> Self:
        with deaf_to_interrupts():
            self._process.start()
        self._there.close()  # so that its end shows
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._here.close()
        self._process.terminate()
        self._process.join(PATIENCE_S)

    def ended(self) -> DatabaseBroke:
        """What is to be said when it has gone without an answer."""
        return DatabaseBroke(
            f"the second process of this command ({self._name}) was ended before it was done",
            hint="the machine's memory may have run out (the kernel's log says so); try again",
        )


class SecondProcess(Spawned):
    """Answers messages as `begin` has said."""

    def __init__(self, name: str) -> None:
        super().__init__(name, _answer)

    def begin(self, answer: Callable[[Any], Any], message: Any) -> None:
        """Say how messages are answered, and ask the first one.

        Raises DatabaseBroke if the process was ended by somebody.
        """
        try:
            self._here.send(answer)
            self._here.send(message)
        except OSError:
            raise self.ended() from None

    def exchange(self, message: Any) -> Any:
        """Ask the next question, and take the answer to the one before, so that the process never waits for long.

        Raises what the answering raised, if that is one of foreman's errors, and what `begin` raises.
        """
        following = pickle.dumps(message)
        try:
            answer = self._here.recv_bytes()
        except (EOFError, OSError):
            raise self.ended() from None
        with suppress(OSError):  # it has ended: its answer may say why, or the next one will be missed
            self._here.send_bytes(following)
        # It comes from this very program.
        answered = pickle.loads(answer)  # noqa: S301
        if isinstance(answered, ForemanError):
            raise answered
        return answered


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def no_collector() -> Iterator[None]:
    """Without the search for cycles, which looks at everything again and again: for work that makes none."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@contextmanager
def deaf_to_interrupts() -> Iterator[None]:
    """What is started in the block never hears Ctrl-C, not even while Python starts up."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _run(work: Callable[..., None], pipe: Connection, arguments: tuple[Any, ...]) -> None:
    gc.disable()  # what is worth a process makes millions of objects, and its memory ends with it
    with suppress(ConnectionError):  # nobody is there any more
        try:
            work(pipe, *arguments)
        except ForemanError as error:
            pipe.send(error)


def _answer(pipe: Connection) -> None:
    messages = _received(pipe)
    answer: Any = next(messages, None)  # none, if nobody came to ask anything
    for message in messages:
        pipe.send(answer(message))


def _received(pipe: Connection) -> Iterator[Any]:
    """What comes, until nobody is there any more."""
    with suppress(EOFError, OSError):
        while True:
            yield pipe.recv()
