"""What a record says of an earlier search, so that a controller can go on with it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from optuna.trial import FrozenTrial

from search.ladder import Ladder
from search.study import IMPORTED, OUTCOMES, UNSCORED, Outcome
from search.work import LiveTrial


@dataclass
class Saved:
    """An earlier search, but for its rungs."""

    asked: int = 0
    """The number of the next trial."""
    imported: int = 0
    """Trials of another search that the study begins with."""
    baselines: set[str] = field(default_factory=set)
    """Names of those that have a trial."""
    outcomes: dict[Outcome, int] = field(default_factory=lambda: dict.fromkeys(OUTCOMES, 0))
    """How many trials ended in each way."""
    epochs: int = 0
    """Epochs trained by all trials together."""
    scores: dict[int, float] = field(default_factory=dict)
    """Score of each trial at the last epoch trained, where it counts."""
    arrivals: int = 0
    """Arrivals at rungs."""
    unfinished: list[FrozenTrial] = field(default_factory=list)
    """Trials without an outcome."""


def read(everything: Sequence[FrozenTrial], ladder: Ladder, sign: float) -> Saved:
    """What became of all trials of a study, by number. Fills the ladder's rungs, with scores times `sign`."""
    trials = [trial for trial in everything if IMPORTED not in trial.user_attrs]
    saved = Saved(asked=len(everything), imported=len(everything) - len(trials))
    places = []
    for trial in trials:
        facts, last = trial.user_attrs, trial.last_step
        saved.epochs += len(trial.intermediate_values)
        if "baseline" in facts:
            saved.baselines.add(facts["baseline"])
        # an outcome whose state was not written any more is decided again
        if trial.state.is_finished():
            saved.outcomes[facts["outcome"]] += 1
        else:
            saved.unfinished.append(trial)
        score = math.nan if last is None else trial.intermediate_values[last]
        if math.isfinite(score) and facts.get("outcome") not in UNSCORED:
            saved.scores[trial.number] = score
        for level, place in facts.get("arrivals", {}).items():
            if int(level) in trial.intermediate_values:  # scores are written last
                places.append((place, trial.number, int(level), trial.intermediate_values[int(level)]))
    for place, number, level, score in sorted(places):
        ladder[level].arrive(number, sign * score)
        saved.arrivals = place
    for trial in trials:
        for level in trial.user_attrs.get("gone_on", ()):
            if trial.number in ladder[level].scores:
                ladder[level].go_on(trial.number)
        if trial.state.is_finished():
            ladder.leave(trial.number)
    return saved


def diverged(trial: FrozenTrial) -> bool:
    """Whether the last that a trial reported holds something that is not finite."""
    last = trial.last_step
    if last is None:
        return False
    numbers = [trial.intermediate_values[last]]
    for row in _rows(trial)[-1:]:
        numbers += [value for value in row.values() if isinstance(value, int | float)]
    return not all(math.isfinite(number) for number in numbers)


def live_trial(trial: FrozenTrial, config: Any) -> LiveTrial:
    """A trial without an outcome, as it was left: what is noted of an epoch without a score never was."""
    facts, epochs, rows = trial.user_attrs, trial.last_step or 0, _rows(trial)
    return LiveTrial(
        config,
        epochs=epochs,
        stints=list(facts.get("stints", ())),
        failures=facts.get("failures", 0),
        lost=facts.get("lost", 0),
        seconds=sum(float(row.get("seconds", 0.0)) for row in rows),
        rows=rows,
        arrivals={k: place for k, place in facts.get("arrivals", {}).items() if int(k) <= epochs},
        start=facts.get("start", 0),
        gone_on=[level for level in facts.get("gone_on", ()) if level <= epochs],
    )


def _rows(trial: FrozenTrial) -> list[dict[str, Any]]:
    """The reports of the epochs that have a score."""
    return [row for row in trial.user_attrs.get("epochs", ()) if row["epoch"] <= (trial.last_step or 0)]
