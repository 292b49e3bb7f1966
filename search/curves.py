"""Recorded learning curves as a file, and as something that a simulated search can draw from.

The file is Parquet, a row a trial:

    params          JSON, each parameter's value by name, in the order they were asked for
    distributions   JSON, each parameter's distribution by name, as Optuna writes it
    values          list of float: the score after each epoch; NaN from the epoch at which it diverged
    seconds         list of float: the duration of each epoch
    direction       maximize or minimize, the same in every row

Every trial has as many epochs as the longest: one that was stopped early says nothing about later epochs.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from optuna.distributions import BaseDistribution, distribution_to_json, json_to_distribution
from optuna.trial import create_trial

from search.conditions import INACTIVE
from search.encoding import Floats
from search.observations import Observations

if TYPE_CHECKING:
    import optuna

Direction = Literal["maximize", "minimize"]


@dataclass(frozen=True)
class RecordedTrial:
    """One configuration and its whole curve."""

    params: dict[str, Any]
    distributions: dict[str, BaseDistribution]
    values: Floats
    """Score after each epoch, shape (epochs,)."""
    seconds: Floats
    """Duration of each epoch, shape (epochs,)."""


class RecordedCurves:
    """A space and its curves, rebuilt from recorded trials: `suggest` and `curve` are what `simulate` takes.

    A configuration has the curve of the nearest recorded one. When a parameter is asked for is learnt from
    the recorded configurations. Raises ValueError for no trials, or for curves of different lengths.
    """

    def __init__(self, trials: list[RecordedTrial], direction: Direction) -> None:
        if not trials:
            raise ValueError("there are no learning curves: not one trial was trained to the last epoch")
        lengths = {len(part) for trial in trials for part in (trial.values, trial.seconds)}
        if len(lengths) != 1:
            raise ValueError(f"curves must have the same number of epochs, but have {sorted(lengths)}")
        self.trials, self.direction, self.epochs = trials, direction, lengths.pop()
        self._seen = Observations()
        self._seen.update(
            [
                # the value plays no part: what is wanted is how configurations lie to one another
                _numbered(create_trial(value=0.0, params=t.params, distributions=t.distributions), number)
                for number, t in enumerate(trials)
            ]
        )
        self._fixed = {n: d for t in trials for n, d in t.distributions.items() if d.single()}
        self._columns = self._seen.rows(range(len(trials)))

    def suggest(self, trial: optuna.Trial) -> None:
        """Ask for one configuration, parameter by parameter as the recorded trials were."""
        seen = self._seen
        conditions = seen.conditions()
        units = np.full((1, len(seen.space.names)), INACTIVE, dtype=np.float32)
        for name, distribution in self._fixed.items():
            _ask(trial, name, distribution)
        for i, name in enumerate(seen.space.names):
            if conditions.active_next(units[:, :i])[0]:
                value = _ask(trial, name, seen.distributions[name])
                units[0, i] = seen.space.parameters[i].to_unit(value)

    def curve(self, params: Mapping[str, Any]) -> tuple[Floats, Floats]:
        """Scores and seconds of the nearest recorded configuration; of equally near ones the first."""
        units, active = self._seen.space.row(params)
        own = self._seen.space.encode(units[None], active[None])
        nearest = self.trials[int(((self._columns - own) ** 2).sum(axis=1).argmin())]
        return nearest.values, nearest.seconds

    def write(self, path: Path) -> None:
        """Write the file. OSError where that cannot be done."""
        import pandas as pd

        rows = [
            {
                "params": json.dumps(trial.params),
                "distributions": json.dumps(
                    {name: json.loads(distribution_to_json(d)) for name, d in trial.distributions.items()}
                ),
                "values": trial.values.tolist(),
                "seconds": trial.seconds.tolist(),
                "direction": self.direction,
            }
            for trial in self.trials
        ]
        pd.DataFrame(rows).to_parquet(path, index=False)

    @classmethod
    def read(cls, path: Path) -> RecordedCurves:
        """Read the file. Raises ValueError, saying why, where it cannot be read or holds something else."""
        import pandas as pd

        try:
            table = pd.read_parquet(path)
        except (OSError, ValueError) as error:
            raise ValueError(f"{path} cannot be read: {error}") from error
        missing = {"params", "distributions", "values", "seconds", "direction"} - set(table.columns)
        if missing or table.empty:
            lacks = f"columns {', '.join(sorted(missing))}" if missing else "rows"
            raise ValueError(f"{path} is no file of learning curves: it has no {lacks}")
        trials = [
            RecordedTrial(
                json.loads(row["params"]),
                {
                    name: json_to_distribution(json.dumps(document))
                    for name, document in json.loads(row["distributions"]).items()
                },
                np.array(row["values"], dtype=float),
                np.array(row["seconds"], dtype=float),
            )
            for row in table.to_dict("records")
        ]
        return cls(trials, cast("Direction", table["direction"].iloc[0]))

    @classmethod
    def of_study(cls, study: optuna.Study) -> RecordedCurves:
        """The trials of a run that were trained to the last epoch or diverged; see `read` for the rest.

        Seconds are those that the trial noted for each epoch.
        """
        direction: Direction = "maximize" if study.direction.name == "MAXIMIZE" else "minimize"
        found = study.get_trials(deepcopy=False)
        epochs = max((trial.last_step or 0 for trial in found), default=0)
        trials = [recorded for trial in found if (recorded := _recorded(trial, epochs)) is not None]
        return cls(trials, direction)


def _recorded(trial: optuna.trial.FrozenTrial, epochs: int) -> RecordedTrial | None:
    values = [trial.intermediate_values.get(epoch, math.nan) for epoch in range(1, epochs + 1)]
    diverged = trial.user_attrs.get("outcome") == "diverged"
    if epochs == 0 or not trial.last_step or (trial.last_step < epochs and not diverged):
        return None
    noted = {int(row["epoch"]): float(row["seconds"]) for row in trial.user_attrs.get("epochs", [])}
    if not noted:
        return None
    typical = float(np.median(list(noted.values())))
    seconds = [noted.get(epoch, typical) for epoch in range(1, epochs + 1)]
    if diverged:
        values[trial.last_step - 1] = math.nan  # it may have been the loss that was not finite
    return RecordedTrial(dict(trial.params), dict(trial.distributions), np.array(values), np.array(seconds))


def _numbered(trial: optuna.trial.FrozenTrial, number: int) -> optuna.trial.FrozenTrial:
    trial.number = number
    return trial


def _ask(trial: optuna.Trial, name: str, distribution: BaseDistribution) -> Any:
    # the public suggest_* in one: every distribution has the arguments of its own
    arguments = {key: value for key, value in vars(distribution).items() if key != "log" or value}
    kind = type(distribution).__name__
    if kind == "CategoricalDistribution":
        return trial.suggest_categorical(name, arguments["choices"])
    suggest = trial.suggest_int if kind == "IntDistribution" else trial.suggest_float
    return suggest(name, **arguments)
