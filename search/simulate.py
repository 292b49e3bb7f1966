"""A search in virtual time: the very same controller, over learning curves that are known or modelled.

    rows = simulate(suggest, curve, workers=4, max_epochs=27, trials=100)

    python -m search.simulate --record results/NAME --curves curves.parquet
    python -m search.simulate --curves curves.parquet --workers 1,4,16 --plot out.png

How many workers, which settings, how long? Answered before anything is trained.
"""

from __future__ import annotations

import heapq
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from search.command_line import fail
from search.controller import Controller, Plan, Rule
from search.formats import parse_duration
from search.sampler import samplers
from search.settings import UsageError
from search.study import StudyRecord
from trainables.config import require, require_choice

if TYPE_CHECKING:
    import optuna
    import pandas as pd

Direction = Literal["maximize", "minimize"]
Curve = Callable[[dict[str, Any]], tuple[ArrayLike, ArrayLike]]


def simulate(
    suggest: Callable[[optuna.Trial], Any],
    curve: Curve,
    *,
    workers: int,
    max_epochs: int,
    min_epochs: int = 1,
    reduction_factor: int = 3,
    trials: int | None = None,
    seconds: float | None = None,
    sampler: str | optuna.samplers.BaseSampler = "multifidelity",
    asha: Rule = "promote",
    direction: Direction = "maximize",
    seed: int = 0,
) -> pd.DataFrame:
    """Every epoch of a simulated search, a row each, in order of time.

    `suggest` makes a configuration of a trial (a space with its task bound; what it returns is not used).
    `curve` gives, for a trial's parameters, the score after each epoch and the duration of each in seconds,
    both of shape (max_epochs,). `sampler` is a name (see `search.sampler`) or an Optuna sampler. The search
    ends after `trials` configurations, or with the last epoch that ends within `seconds`.

    Columns: time (the epoch's end, in seconds), trial, epoch, value, state (of the trial after it: running,
    waiting at a rung, pruned, diverged by a value that is not finite, complete), params. What ends at the
    same time comes in order of trial number. A waiting trial that is promoted goes on at no extra cost.
    Raises ValueError for settings that can never work, and for a curve of another shape or with durations
    that are not finite and positive (or zero, where `trials` ends the search).
    """
    import pandas as pd

    if trials is None and seconds is None:
        raise ValueError("a search must end somewhere: give trials, seconds or both")
    _require_at_least(1, workers=workers, trials=trials, min_epochs=min_epochs)
    _require_at_least(2, reduction_factor=reduction_factor)
    require(
        min_epochs <= max_epochs, f"min_epochs must not exceed max_epochs, but {min_epochs} > {max_epochs}"
    )
    require(seconds is None or seconds > 0, f"seconds must be positive, but is {seconds}")
    require_choice("asha", asha, Rule)
    require_choice("direction", direction, Direction)
    choose = samplers(sampler, seed) if isinstance(sampler, str) else lambda number: sampler
    record = StudyRecord("simulation", direction)
    plan = Plan(
        min_epochs=min_epochs,
        max_epochs=max_epochs,
        reduction_factor=reduction_factor,
        rule=asha,
        trials=trials,
    )
    controller = Controller(record, plan, suggest=suggest, sampler=choose)
    limit = math.inf if seconds is None else seconds
    simulation = _Simulation(controller, record, curve)
    idle = workers
    while True:
        while idle and simulation.start():
            idle -= 1
        if not simulation.events or simulation.events[0][0] > limit:
            break
        idle += simulation.step()
    if controller.finished:
        controller.finish()
    return pd.DataFrame(simulation.rows, columns=["time", "trial", "epoch", "value", "state", "params"])


def _require_at_least(least: int, **values: int | None) -> None:
    for name, value in values.items():
        require(value is None or value >= least, f"{name} must be at least {least}, but is {value}")


@dataclass
class _Running:
    values: NDArray[np.float64]
    durations: NDArray[np.float64]
    params: dict[str, Any]


class _Simulation:
    """Virtual workers: the events are ends of epochs, by time and then by trial."""

    def __init__(self, controller: Controller, record: StudyRecord, curve: Curve) -> None:
        self.controller, self.record, self.curve = controller, record, curve
        self.now = 0.0
        self.events: list[tuple[float, int, int]] = []
        """A heap of time, trial and epoch."""
        self.rows: list[tuple[float, int, int, float, str, dict[str, Any]]] = []
        self._trials: dict[int, _Running] = {}

    def start(self) -> bool:
        """Give a free worker something to do; whether there was anything."""
        work = self.controller.next_work()
        if work is None:
            return False
        if work.trial not in self._trials:
            self._trials[work.trial] = self._curve_of(dict(self.record.trial(work.trial).params))
        self._begin(work.trial, work.known_epochs + 1)
        return True

    def step(self) -> int:
        """Take in the next end of an epoch; returns how many workers that frees."""
        self.now, number, epoch = heapq.heappop(self.events)
        trial = self._trials[number]
        value = float(trial.values[epoch - 1])
        row = {"epoch": epoch, "seconds": float(trial.durations[epoch - 1])}
        goes_on = self.controller.report(number, row, value)
        self.rows.append((self.now, number, epoch, value, self._state(number), trial.params))
        if goes_on:
            self._begin(number, epoch + 1)
        elif number not in self.controller.live:
            del self._trials[number]
        return 0 if goes_on else 1

    def _begin(self, number: int, epoch: int) -> None:
        duration = float(self._trials[number].durations[epoch - 1])
        heapq.heappush(self.events, (self.now + duration, number, epoch))

    def _state(self, number: int) -> str:
        live = self.controller.live.get(number)
        return live.state if live is not None else str(self.record.trial(number).user_attrs["outcome"])

    def _curve_of(self, params: Mapping[str, Any]) -> _Running:
        plan = self.controller.plan
        values, durations = (np.asarray(part, dtype=float) for part in self.curve(dict(params)))
        for name, part in (("scores", values), ("durations", durations)):
            if part.shape != (plan.max_epochs,):
                raise ValueError(f"a curve must have {plan.max_epochs} {name}, but has shape {part.shape}")
        least = durations.min()
        if not np.isfinite(durations).all() or least < 0 or (least == 0 and plan.trials is None):
            raise ValueError(f"durations must be finite and positive, but are {durations.tolist()}")
        return _Running(values, durations, dict(params))


PROG = "python -m search.simulate"


@dataclass(frozen=True, kw_only=True)
class SimulateOptions:
    """How far would a search get, with how many workers, and how soon? From recorded learning curves."""

    curves: Path
    """File of learning curves (Parquet; `search.curves` says what is in it)."""
    record: str | None = None
    """Write the file from this run, such as results/NAME, instead of simulating; its trials must have been
    trained to the last epoch (--asha none)."""
    workers: str = "1,4,16,64"
    """Numbers of trials at once to compare."""
    trials: int | None = None
    """Configurations to train; None is as many as are recorded, unless --seconds is given."""
    seconds: str | None = None
    """Wall time after which the search ends, such as 90s, 30m or 2h."""
    min_epochs: int = 1
    """Epochs before a trial can first be stopped."""
    reduction_factor: int = 3
    """About one in this many goes on past each rung."""
    sampler: str = "multifidelity"
    """multifidelity, tpe, random, or module:function for your own."""
    asha: Rule = "promote"
    """promote, stop or none."""
    seeds: int = 10
    """Searches to average over."""
    plot: Path | None = None
    """Also draw the best score over time to this file, such as out.png."""


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, simulate or record, print; returns the exit status."""
    import tyro

    options = tyro.cli(SimulateOptions, args=argv, prog=PROG)
    try:
        print(_recorded(options) if options.record is not None else _compared(options))
    except (ValueError, OSError) as error:
        return fail(error, PROG)
    return 0


def _recorded(options: SimulateOptions) -> str:
    from search.copies import opened
    from search.curves import RecordedCurves
    from search.results import Results

    assert options.record is not None
    with opened(options.record) as folder:
        study = Results(folder).study
        curves = RecordedCurves.of_study(study)
        left_out = len(study.get_trials(deepcopy=False)) - len(curves.trials)
    curves.write(options.curves)
    return (
        f"{options.curves}: {len(curves.trials)} learning curves of {curves.epochs} epochs"
        f" ({left_out} trials that were not trained to the end are left out)"
    )


def _compared(options: SimulateOptions) -> str:
    from search import forecast
    from search.curves import RecordedCurves

    curves = RecordedCurves.read(options.curves)
    workers = [int(word) for word in options.workers.split(",")]
    seconds = None if options.seconds is None else parse_duration(options.seconds, "--seconds")
    trials = len(curves.trials) if options.trials is None and seconds is None else options.trials
    _require_at_least(1, seeds=options.seeds)
    forecasts, counts = {}, {}
    for count in workers:
        searches = [
            simulate(
                curves.suggest,
                curves.curve,
                workers=count,
                max_epochs=curves.epochs,
                min_epochs=options.min_epochs,
                reduction_factor=options.reduction_factor,
                trials=trials,
                seconds=seconds,
                sampler=options.sampler,
                asha=options.asha,
                direction=curves.direction,
                seed=seed,
            )
            for seed in range(options.seeds)
        ]
        if any(rows.empty for rows in searches):
            raise UsageError(f"--seconds {options.seconds} ends before a first epoch does")
        forecasts[count] = forecast.forecast(searches, 1.0 if curves.direction == "maximize" else -1.0)
        counts[count] = float(np.mean([rows["trial"].nunique() for rows in searches]))
    title = f"sampler {options.sampler}, asha {options.asha}, {options.seeds} seeds"
    if options.plot is not None:
        forecast.plot(forecasts, options.plot, title)
    note = f"every configuration has the curve of the nearest of {len(curves.trials)} recorded ones"
    table = forecast.summary(forecasts, counts).to_string(index=False)
    return f"{title}; {note}\n95 % intervals of the mean over seeds\n\n{table}"


if __name__ == "__main__":
    sys.exit(main())
