"""How long loads and runs are going to take, and how sure that is: from what was measured, else from what is likely.

Pure. Knows no job and no order; the forecast adds up what it says.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import erfc, exp, log, sqrt
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from foreman.events.types import JobClass
    from foreman.projections.statistics import Measured, Statistics

#: The exponential average of the statistics remembers about this many values.
REMEMBERED: Final = 40
#: What one model was measured at says so much of another: half of the figure either way.
ELSEWHERE: Final = 0.5
#: Token counts and speeds say more of what is left of a run than the time does, once there are so many of them.
ENOUGH: Final = 3
#: No answer takes longer than this, whatever the target's token counts amount to.
LONGEST_REST_S: Final = 7 * 86_400.0
#: A shorter mean is none: its square would be 0.
SHORTEST: Final = 1e-9


@dataclass(frozen=True, slots=True)
class Length:
    """Seconds that something takes: the mean, the variance of a single one, and how far the mean itself may be off."""

    mean_s: float
    variance: float
    #: Variance of the mean: it does not even out over many jobs, as the variance of single ones does.
    doubt: float

    def elsewhere(self) -> Length:
        """The same, as a guess at a model or class that it was not measured for."""
        return Length(self.mean_s, self.variance, self.doubt + (ELSEWHERE * self.mean_s) ** 2)

    def foreseen(self) -> Length:
        """The same of a job that is only expected to come: their number varies, and so does how often they come."""
        variance, doubt = self.variance + self.mean_s**2, self.doubt + (ELSEWHERE * self.mean_s) ** 2
        return Length(self.mean_s, variance, doubt)


#: Nobody knows: anything up to a few times the mean is taken to be possible.
UNKNOWN_LOAD: Final = Length(5.0, 5.0**2, 5.0**2)
UNKNOWN_RUN: Final = Length(10.0, 10.0**2, 10.0**2)


class Lengths:
    """The lengths that statistics amount to; made for one forecast."""

    def __init__(self, statistics: Statistics) -> None:
        self._statistics = statistics
        self._runs: dict[tuple[str, JobClass], Length] = {}
        self._loads: dict[str, Length] = {}
        overall = statistics.overall
        self._any_load = _after(overall.load_s, UNKNOWN_LOAD)
        self._any_run = _after(overall.run_s, UNKNOWN_RUN)

    def load(self, load_key: str) -> Length:
        """A load of this key."""
        if load_key not in self._loads:
            figures = self._statistics.by_key.get(load_key)
            self._loads[load_key] = (
                self._any_load.elsewhere() if figures is None else _after(figures.load_s, self._any_load.elsewhere())
            )
        return self._loads[load_key]

    def run(self, load_key: str, job_class: JobClass) -> Length:
        """A run of a job of this key and class."""
        lane = load_key, job_class
        if lane not in self._runs:
            of_class = self._statistics.overall.run_s_of.get(job_class)
            length = self._any_run if of_class is None else _after(of_class, self._any_run.elsewhere())
            length = length.elsewhere()
            figures = self._statistics.by_key.get(load_key)
            if figures is not None:
                length = _after(figures.run_s, length)
                own = figures.run_s_of.get(job_class)
                length = length if own is None else _after(own, length.elsewhere())
            self._runs[lane] = length
        return self._runs[lane]

    def rest(self, load_key: str, job_class: JobClass, elapsed_s: float, tokens: int | None) -> Length:
        """What is left of a run that has lasted so long and made so many tokens, None if nobody can count them."""
        figures = self._statistics.by_key.get(load_key)
        if not tokens or figures is None or min(figures.tokens.count, figures.tokens_per_s.count) < ENOUGH:
            return _rest(self.run(load_key, job_class), elapsed_s)
        all_tokens = Length(figures.tokens.mean, figures.tokens.variance, 0.0)
        left, speed = _rest(all_tokens, tokens), figures.tokens_per_s.mean
        if not 0 <= left.mean_s <= LONGEST_REST_S * speed or not speed:
            # The target counts as no target would; what foreman has measured itself is still good.
            return _rest(self.run(load_key, job_class), elapsed_s)
        return Length(left.mean_s / speed, left.variance / speed**2, left.doubt / speed**2)

    def rest_of_load(self, load_key: str, elapsed_s: float) -> Length:
        """What is left of a load."""
        return _rest(self.load(load_key), elapsed_s)


def _after(measured: Measured, before: Length) -> Length:
    """What to think once something was measured, given what one thought before: that counts as one more value."""
    if not measured.count:
        return before
    share = 1 / (measured.count + 1)
    own = 1 - share
    mean_s = own * measured.mean + share * before.mean_s
    variance = own * measured.variance + share * before.variance
    # Off by chance, which evens out over the values, and by as much of the first thought as is still in it.
    doubt = own**2 * variance / min(measured.count, REMEMBERED) + share**2 * before.doubt
    return Length(mean_s, variance, doubt)


def _rest(length: Length, elapsed: float) -> Length:
    """What is left after `elapsed`, of a length that is distributed log-normally, as answers' lengths about are."""
    variance = length.variance + length.doubt
    if length.mean_s <= SHORTEST or elapsed <= 0:
        return Length(length.mean_s, variance, 0.0)
    sigma_2 = log(1 + max(variance / length.mean_s**2, 1e-4))
    sigma, mu = sqrt(sigma_2), log(length.mean_s) - sigma_2 / 2
    z = (log(elapsed) - mu) / sigma
    longer = _upper_tail(z)
    if longer < 1e-9:
        # Longer than anything measured: nobody knows, and the longer it has run, the longer it may.
        return Length(sigma * elapsed, (sigma * elapsed) ** 2, 0.0)
    mean = length.mean_s * _upper_tail(z - sigma) / longer
    square = exp(2 * mu + 2 * sigma_2) * _upper_tail(z - 2 * sigma) / longer
    return Length(max(0.0, mean - elapsed), max(0.0, square - mean * mean), 0.0)


def _upper_tail(z: float) -> float:
    """The part of a normal distribution above z."""
    return 0.5 * erfc(z / sqrt(2))
