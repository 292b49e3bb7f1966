"""Successive halving over arrivals: rungs, and the two rules by which trials go on past them.

Li et al. (2018), "A System for Massively Parallel Hyperparameter Tuning" (ASHA). Scores here are larger
for better; a caller that minimizes negates. A score that is not finite is the worst of its rung, and its
trial never goes on.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass, field

_Key = tuple[float, int, int]  # negative score, place of arrival, trial: in order of rank


def rung_levels(min_epochs: int, max_epochs: int, reduction_factor: int) -> tuple[int, ...]:
    """Epochs of the rungs, rising: min_epochs times powers of the reduction factor, and max_epochs.

    >>> rung_levels(1, 20, 3)
    (1, 3, 9, 20)
    """
    assert 1 <= min_epochs <= max_epochs
    assert reduction_factor >= 2
    levels = []
    level = min_epochs
    while level < max_epochs:
        levels.append(level)
        level *= reduction_factor
    return (*levels, max_epochs)


@dataclass
class Rung:
    """One decision level: who arrived, in order, with which score, and who went on.

    Kept in order of rank, so that a question costs next to nothing however many have arrived.
    """

    level: int
    """Epochs."""
    scores: dict[int, float] = field(default_factory=dict)
    """Score by trial number, in order of arrival."""
    gone_on: set[int] = field(default_factory=set)
    """Trials that went on past this rung."""
    _keys: dict[int, _Key] = field(default_factory=dict, repr=False)
    _ranked: list[_Key] = field(default_factory=list, repr=False)
    _staying: list[_Key] = field(default_factory=list, repr=False)

    def arrive(self, trial: int, score: float) -> None:
        """Note a trial's score. A trial that arrives again, after a crash, keeps its first score."""
        if trial in self.scores:
            return
        score = score if math.isfinite(score) else -math.inf
        key = (-score, len(self.scores), trial)
        self.scores[trial], self._keys[trial] = score, key
        insort(self._ranked, key)
        if score > -math.inf:
            insort(self._staying, key)

    def rank(self, trial: int) -> int:
        """1 for the best; of equal scores the earlier arrival ranks higher."""
        return bisect_left(self._ranked, self._keys[trial]) + 1

    def ranked_below(self, rank: int) -> list[int]:
        """The trials that rank worse than that, in order."""
        return [key[-1] for key in self._ranked[rank:]]

    def go_on(self, trial: int) -> None:
        """Note that a trial that arrived goes on past this rung."""
        self.gone_on.add(trial)
        self.leave(trial)

    def leave(self, trial: int) -> None:
        """Note that a trial can not go on from here any more: it did, or it has ended."""
        place = bisect_left(self._staying, self._keys[trial])
        if self._staying[place : place + 1] == [self._keys[trial]]:
            del self._staying[place]

    def best_staying(self) -> int | None:
        """The best of those that may still go on; a score that is not finite never may."""
        return self._staying[0][-1] if self._staying else None


def survives(rung: Rung, trial: int, reduction_factor: int) -> bool:
    """The stopping rule: whether a trial that just arrived is among the best 1/reduction_factor so far.

    With n arrivals, those ranked floor((n - 1) / reduction_factor) + 1 or better go on: without ties, the
    scores that reach `np.quantile(scores, 1 - 1 / reduction_factor)`. The first of a rung always goes on.
    """
    allowed = (len(rung.scores) - 1) // reduction_factor + 1
    return rung.scores[trial] > -math.inf and rung.rank(trial) <= allowed


def promotable(rung: Rung, reduction_factor: int) -> int | None:
    """The promoting rule: the best trial not yet promoted, if among the top floor(n / reduction_factor)."""
    trial = rung.best_staying()
    if trial is None or rung.rank(trial) > len(rung.scores) // reduction_factor:
        return None
    return trial


def expected_epochs(levels: Sequence[int], trials: int, reduction_factor: int) -> int:
    """About how many epochs a search of `trials` takes in all, if one in reduction_factor goes on each time.

    >>> expected_epochs((1, 3, 9), trials=9, reduction_factor=3)
    21
    """
    total, before = 0, 0
    for position, level in enumerate(levels):
        total += max(1, trials // reduction_factor**position) * (level - before)
        before = level
    return total
