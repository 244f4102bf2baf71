"""Whether the target is wedged: it takes calls, its lists are green, and no generation gets an answer.

Counts the calls that stalled, and asks for one token to find out whether that is over. Does not decide when a call has
stalled, nor what becomes of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

import orjson

from foreman.clock import Clock, Micros
from foreman.errors import TargetError, TargetRefused
from foreman.logs import get_logger
from foreman.target.client import Target
from foreman.target.names import RELOADING_OPTIONS, canonical

log = get_logger(__name__)

#: So many stalled calls in a row, without a byte for any call in between, and the target counts as wedged.
STALLS_IN_A_ROW: Final = 2
#: How long a probe may take if there is no such limit for calls: it may have to load its model.
PROBE_WITHIN_S: Final = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked to see whether the target answers: one token of a model."""

    model: str
    #: Of a job's options those that would load the model anew if they differed.
    options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def like(cls, model: str, options: Mapping[str, Any]) -> Question:
        """The question that needs what a job of this model, with these options, needs."""
        return cls(
            model=model,
            options={
                name: value
                for name in RELOADING_OPTIONS
                # They are all numbers and switches; anything else the target has not loaded the model with.
                if isinstance(value := options.get(name), int | float)
            },
        )

    def body(self) -> bytes:
        """The request. It says nothing of keep_alive, so a model that is loaded stays for as long as it would have."""
        options = {**self.options, "num_predict": 1}
        return orjson.dumps({"model": self.model, "prompt": "hi", "stream": False, "options": options})


class Wedge:
    """The stalls so far, and the probes that end what they led to."""

    def __init__(self, target: Target, clock: Clock, within_s: float) -> None:
        """`within_s` is what a probe may take; 0 takes `PROBE_WITHIN_S`."""
        self._target = target
        self._clock = clock
        self._within_s = within_s or PROBE_WITHIN_S
        #: When the first of the stalls was noticed that made the target count as wedged; None while it does not.
        self.since: Micros | None = None
        self.error = ""
        #: The names of the models that jobs wait for.
        self.wanted: Callable[[], Sequence[str]] = tuple
        #: Signs of life so far, of any call.
        self.signs = 0
        self._in_a_row = 0
        self._first_at = Micros(0)
        self._suspect = Question(model="")
        self._probes = 0

    def heard(self) -> None:
        """A generation or a load had bytes for an answer. What is wedged by now a probe has to set free."""
        self.signs += 1
        self._in_a_row = 0

    def stalled(self, question: Question, error: str) -> bool:
        """Count a call that had no answer; whether the target is wedged now."""
        if not self._in_a_row:
            self._first_at = self._clock.now()
        self._in_a_row += 1
        self._suspect = question
        if self.since is None and self._in_a_row >= STALLS_IN_A_ROW:
            self.since = self._first_at
            self.error = f"Ollama accepts requests but does not answer: {error}"
            self._probes = 0
        return self.since is not None

    async def probe(self) -> bool:
        """Ask for one token; whether it came, and with it the end of the wedge."""
        question = self._next_question()
        if not await self._answers(question):
            return False
        self.since, self.error, self._in_a_row = None, "", 0
        return True

    def _next_question(self) -> Question:
        """The model that stalled, and every other time one of those that jobs wait for.

        A resident model may go on answering while loads hang, so what answers has to be something that is needed. But
        a model that never loads must not keep the jobs of all others waiting.
        """
        number, self._probes = self._probes, self._probes + 1
        wanted, suspect = {canonical(name) for name in self.wanted()}, canonical(self._suspect.model)
        others = sorted(wanted - {suspect})
        # Nobody may wait for it any more: then it matters no longer whether it answers.
        if not others or (number % 2 == 0 and suspect in wanted):
            return self._suspect
        return Question(model=others[number // 2 % len(others)])

    async def _answers(self, question: Question) -> bool:
        try:
            await self._target.fetch("POST", "/api/generate", question.body(), within_s=self._within_s)
        except TargetError as error:
            # Of the model that stalled a refusal is an answer too: it may have been deleted, and would never say more.
            final = isinstance(error, TargetRefused) and error.status != HTTPStatus.SERVICE_UNAVAILABLE
            answers = final and question is self._suspect
            log.info("target.probed", model=question.model, error=str(error))
            return answers
        return True
