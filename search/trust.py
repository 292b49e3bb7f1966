"""Which rungs can be trusted: measured in the search itself, by how a rung ranks the trials that go on.

Hyper-Tune (Li et al., VLDB 2022, "Hyper-Tune: Towards Efficient Hyper-parameter Tuning at Scale") draws each
trial's bracket, which is the rung that judges it first: the more often, the better scores at that rung
predict later ones, and the less often, the more it costs. So it is here, with Kendall's tau between two
rungs, over the trials that reached both, in place of the ranking loss of a model. What is started higher
also tells of the lower rungs and, unlike what was promoted there, was not selected by them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

Scores = Mapping[int, float]
"""By trial number."""

FULL = 0.3
"""Rank correlation from which on a rung is trusted fully. Among the few that a rung promotes the correlation
is far lower than among all."""
TRUSTED = 0.7
"""Least trust in a rung that other decisions are founded on."""
PRIOR_PAIRS = 4
"""Pairs that the belief before any of them counts for; it is FULL."""


def rank_correlation(left: Scores, right: Scores) -> float:
    """Kendall's tau-b over the trials in both; 0 where all are equal in one, or there are fewer than two."""
    from scipy.stats import kendalltau

    both = [number for number in left if number in right]
    if len(both) < 2:
        return 0.0
    tau = float(kendalltau([left[n] for n in both], [right[n] for n in both]).statistic)
    return tau if math.isfinite(tau) else 0.0


def trust(values: Mapping[float, Scores], step: float, enough: int) -> float:
    """How far the scores at a step can be believed, from 0 to 1: by what became of them at the highest step
    that `enough` of its trials reached. 1 while nothing is known.
    """
    low = values.get(step, {})
    for later in sorted((other for other in values if other > step), reverse=True):
        pairs = len(low.keys() & values[later].keys())
        if pairs >= enough:
            tau = rank_correlation(low, values[later])
            shrunk = (pairs * tau + PRIOR_PAIRS * FULL) / (pairs + PRIOR_PAIRS)
            return min(max(shrunk / FULL, 0.0), 1.0)
    return 1.0


def start_weights(
    levels: Sequence[int], counts: Sequence[int], trusts: Sequence[float], enough: int
) -> list[float]:
    """How probable it is, up to a factor, that a new trial is first judged at each rung.

    Given are the epochs, the number of scores and the trust of each rung; the last needs none. A rung takes
    part once it has `enough` scores, so that there is something to compare with, and at once where the one
    below is not trusted. Weights fall as in Hyperband, with 1 / ((K - i) r_i) of its K brackets.
    """
    weights, takes_part = [], True
    for i, level in enumerate(levels):
        takes_part = i == 0 or counts[i] >= enough or (takes_part and trusts[i - 1] < TRUSTED)
        belief = trusts[i] ** 2 if i < len(levels) - 1 else 1.0
        weights.append(belief / ((len(levels) - i) * level) if takes_part else 0.0)
    return weights
