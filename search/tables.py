"""A study as a table: every trial a row, and the facts that a row tells."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import optuna
    import pandas as pd

FACTS = ("rank", "trial", "baseline", "outcome", "score", "epochs", "network_parameters", "seconds")
DETAILS = ("precision", "device", "node", "stints", "error")


def trials_table(study: optuna.Study) -> pd.DataFrame:
    """Every trial a row, best score first, then those without one.

    Columns: `rank` (of those with a score, 1 the best), `trial` (its number), `baseline` (its name or
    empty), `outcome`, `score` (at the last epoch trained), `epochs`, `network_parameters` (count),
    `seconds` (of training), the details of the run, and a column a parameter of the space, by its name
    (`parameter.NAME` where a fact has that name); empty where a trial has no such parameter.
    """
    trials = ranked(study)
    columns: dict[str, list[Any]] = {name: [] for name in (*FACTS, *DETAILS)}
    for rank, trial in trials:
        for name, value in trial_facts(trial, rank).items():
            columns[name].append(value)
    for name in dict.fromkeys(name for _, trial in trials for name in trial.params):
        column = f"parameter.{name}" if name in columns else name
        columns[column] = [plain(trial.params.get(name)) for _, trial in trials]
    return frame(columns).astype({"rank": "Int64", "score": "float64", "network_parameters": "Int64"})


def ranked(study: optuna.Study) -> list[tuple[int | None, optuna.trial.FrozenTrial]]:
    """Trials by score, of equal ones the earlier first, with their ranks; those without a score last."""
    sign = -1.0 if study.direction.name == "MAXIMIZE" else 1.0
    trials = [trial for trial in study.get_trials(deepcopy=False) if "imported" not in trial.user_attrs]
    scores = {trial.number: _score(trial) for trial in trials}
    scored = [trial for trial in trials if scores[trial.number] is not None]
    scored.sort(key=lambda trial: (sign * (scores[trial.number] or 0.0), trial.number))
    others = [trial for trial in trials if scores[trial.number] is None]
    return [*enumerate(scored, 1), *((None, trial) for trial in others)]


def _outcome(trial: optuna.trial.FrozenTrial) -> str:
    # noted before Optuna is told: a crash in between leaves the trial unfinished
    return str(trial.user_attrs.get("outcome", "")) if trial.state.is_finished() else "unfinished"


def _score(trial: optuna.trial.FrozenTrial) -> float | None:
    from search.study import UNSCORED

    last = trial.last_step
    if last is None or _outcome(trial) in UNSCORED:
        return None
    score = float(trial.intermediate_values[last])
    return score if math.isfinite(score) else None


def trial_facts(trial: optuna.trial.FrozenTrial, rank: int | None = None) -> dict[str, Any]:
    """What a row of a table says of a trial, by the names of `FACTS` and `DETAILS`."""
    noted = trial.user_attrs
    return {
        "rank": rank,
        "trial": trial.number,
        "baseline": noted.get("baseline", ""),
        "outcome": _outcome(trial),
        "score": _score(trial),
        "epochs": trial.last_step or 0,
        "network_parameters": noted.get("network_parameters"),
        "seconds": float(noted.get("seconds", 0.0)),
        "precision": noted.get("precision", ""),
        "device": noted.get("device", ""),
        "node": noted.get("node", ""),
        "stints": len(noted.get("stints", ())),
        "error": noted.get("error", ""),
    }


def plain(value: Any) -> Any:
    """A value of numpy's as Python's own, which every format knows."""
    return value.item() if hasattr(value, "item") else value


def frame(columns: dict[str, list[Any]]) -> pd.DataFrame:
    """A table whose whole numbers stay whole where some are missing; pandas would make them floats."""
    import pandas as pd

    def column(values: list[Any]) -> Any:
        kinds = {type(value) for value in values if value is not None}
        if kinds == {int}:
            return pd.array(values, dtype="Int64") if None in values else values
        return values if len(kinds) == 1 else pd.Series(values, dtype=object)

    return pd.DataFrame({name: column(values) for name, values in columns.items()})
