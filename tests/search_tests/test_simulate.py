"""The controller under virtual time: exact times on examples small enough to follow by hand."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial

from search.curves import RecordedCurves, RecordedTrial
from search.forecast import best_over_time, forecast, plot
from search.simulate import main, simulate

EPOCHS = 3  # rungs at 1 and 3


class InTurn(optuna.samplers.BaseSampler):
    """Proposes a trial's own number, so that an example can say what each trial scores."""

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return {}

    def sample_relative(self, study: Any, trial: Any, search_space: Any) -> dict[str, Any]:
        return {}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> int:
        return trial.number


def numbered(trial: optuna.Trial) -> int:
    return trial.suggest_int("number", 0, 10_000)


def constant(*scores: float, seconds: float = 1.0) -> Any:
    """Trial n scores scores[n] after every epoch."""
    return lambda params: ([scores[params["number"]]] * EPOCHS, [seconds] * EPOCHS)


def run(curve: Any, **options: Any) -> pd.DataFrame:
    settings = {"workers": 1, "max_epochs": EPOCHS, "sampler": InTurn(), "asha": "promote"} | options
    return simulate(numbered, curve, **settings)


def told(rows: pd.DataFrame) -> list[tuple[Any, ...]]:
    columns = ["time", "trial", "epoch", "state"]
    return [tuple(row) for row in rows[columns].itertuples(index=False)]


def test_one_worker_promotes_the_best_of_three() -> None:
    rows = run(constant(0.5, 0.7, 0.6), trials=3)
    assert told(rows) == [
        (1.0, 0, 1, "waiting"),
        (2.0, 1, 1, "waiting"),
        (3.0, 2, 1, "waiting"),
        (4.0, 1, 2, "running"),
        (5.0, 1, 3, "complete"),
    ]


def test_a_trial_that_is_promoted_at_once_keeps_its_worker() -> None:
    rows = run(constant(0.5, 0.6, 0.7), trials=3)
    assert told(rows)[2:] == [(3.0, 2, 1, "running"), (4.0, 2, 2, "running"), (5.0, 2, 3, "complete")]


def test_one_worker_stops_what_is_not_among_the_best() -> None:
    rows = run(constant(0.5, 0.7, 0.6), trials=3, asha="stop")
    assert told(rows) == [
        (1.0, 0, 1, "running"),
        (2.0, 0, 2, "running"),
        (3.0, 0, 3, "complete"),
        (4.0, 1, 1, "running"),
        (5.0, 1, 2, "running"),
        (6.0, 1, 3, "complete"),
        (7.0, 2, 1, "pruned"),
    ]


def test_without_a_rule_every_trial_is_trained_to_the_end() -> None:
    rows = run(constant(0.5, 0.7), trials=2, asha="none")
    assert told(rows)[2] == (3.0, 0, 3, "complete")
    assert told(rows)[5] == (6.0, 1, 3, "complete")


def test_two_workers_share_the_trials() -> None:
    rows = run(constant(0.5, 0.7, 0.6), trials=3, workers=2)
    # at 1 both end, the lower number first; at 2 one worker goes on with trial 1, the other has nothing
    assert told(rows) == [
        (1.0, 0, 1, "waiting"),
        (1.0, 1, 1, "waiting"),
        (2.0, 2, 1, "waiting"),
        (3.0, 1, 2, "running"),
        (4.0, 1, 3, "complete"),
    ]


@pytest.mark.parametrize(("asha", "end"), [("stop", 3.0), ("none", 3.0)])
def test_two_workers_run_side_by_side(asha: str, end: float) -> None:
    rows = run(constant(0.5, 0.7), trials=2, workers=2, asha=asha)
    assert rows["time"].max() == end
    assert len(rows) == 2 * EPOCHS


def test_each_epoch_takes_its_own_time() -> None:
    rows = run(lambda params: ([0.1, 0.2, 0.3], [0.5, 2.0, 0.25]), trials=1, asha="none")
    assert rows["time"].tolist() == [0.5, 2.5, 2.75]
    assert rows["value"].tolist() == [0.1, 0.2, 0.3]


def test_epochs_that_would_end_after_the_time_do_not_count() -> None:
    rows = run(constant(*np.linspace(0, 1, 50)), seconds=4.5, workers=2)
    assert rows["time"].max() == 4.0
    assert len(rows) == 8


def test_an_epoch_that_ends_with_the_time_counts() -> None:
    assert run(constant(*np.linspace(0, 1, 50)), seconds=4.0)["time"].max() == 4.0


def test_a_value_that_is_not_finite_diverges_and_frees_the_worker() -> None:
    def curve(params: dict[str, Any]) -> tuple[list[float], list[float]]:
        return ([0.5, math.nan, 0.5] if params["number"] == 0 else [0.4] * 3), [1.0] * 3

    rows = run(curve, trials=2, asha="none")
    assert told(rows)[:3] == [(1.0, 0, 1, "running"), (2.0, 0, 2, "diverged"), (3.0, 1, 1, "running")]
    assert rows["trial"].tolist() == [0, 0, 1, 1, 1]


def test_minimizing_promotes_the_smallest() -> None:
    rows = run(constant(0.5, 0.7, 0.6), trials=3, direction="minimize")
    assert rows[rows["state"] == "complete"]["trial"].tolist() == [0]


def test_a_row_has_the_documented_columns_and_the_parameters() -> None:
    rows = run(constant(0.5, 0.7), trials=2)
    assert list(rows.columns) == ["time", "trial", "epoch", "value", "state", "params"]
    assert rows["params"].tolist()[:2] == [{"number": 0}, {"number": 1}]
    assert rows["time"].is_monotonic_increasing


@pytest.mark.parametrize("sampler", ["random", "tpe", "multifidelity"])
def test_the_same_seed_gives_the_same_search_and_another_seed_another(sampler: str) -> None:
    def curve(params: dict[str, Any]) -> tuple[Any, Any]:
        return params["x"] * np.arange(1, 10), np.full(9, 1.0 + params["x"])

    def rows(seed: int) -> pd.DataFrame:
        return simulate(
            lambda trial: trial.suggest_float("x", 0, 1),
            curve,
            workers=3,
            max_epochs=9,
            trials=20,
            sampler=sampler,
            seed=seed,
        )

    pd.testing.assert_frame_equal(rows(1), rows(1))
    assert not rows(1).equals(rows(2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "trials, seconds"),
        ({"trials": 0}, "trials"),
        ({"trials": 1, "workers": 0}, "workers"),
        ({"seconds": 0.0}, "seconds"),
        ({"seconds": math.nan}, "seconds"),
        ({"trials": 1, "min_epochs": 4}, "min_epochs"),
        ({"trials": 1, "reduction_factor": 1}, "reduction_factor"),
        ({"trials": 1, "sampler": "grid"}, "grid"),
        ({"trials": 1, "asha": "pause"}, "pause"),
        ({"trials": 1, "direction": "up"}, "up"),
    ],
)
def test_what_can_never_work_is_refused_by_name(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run(constant(0.5), **options)


@pytest.mark.parametrize(
    "curve",
    [
        lambda params: ([0.1, 0.2], [1.0, 1.0, 1.0]),
        lambda params: ([0.1, 0.2, 0.3], [1.0, 1.0]),
        lambda params: ([0.1, 0.2, 0.3], [1.0, -1.0, 1.0]),
        lambda params: ([0.1, 0.2, 0.3], [1.0, math.inf, 1.0]),
    ],
)
def test_a_curve_that_makes_no_sense_is_refused(curve: Any) -> None:
    with pytest.raises(ValueError, match=r"curve|durations"):
        run(curve, trials=1)


def test_time_that_stands_still_would_never_end_a_search_bounded_by_time() -> None:
    with pytest.raises(ValueError, match="durations"):
        run(lambda params: ([0.1] * 3, [0.0] * 3), seconds=1.0)
    assert run(lambda params: ([0.1] * 3, [0.0] * 3), trials=1, asha="none")["time"].tolist() == [0.0] * 3


def test_a_million_virtual_workers_need_no_more_than_the_trials() -> None:
    rows = run(constant(*[0.5] * 5), trials=5, workers=1_000_000, asha="none")
    assert rows["time"].max() == 3.0


# --- recorded curves, and the command ---


def recorded(count: int = 40) -> RecordedCurves:
    """A small conditional space whose best score is in branch b, at small x."""
    trials = []
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(count):
        trial = study.ask()
        quality = 1.0 - trial.suggest_float("x", 0, 1)
        if trial.suggest_categorical("branch", ["a", "b"]) == "b":
            quality += 0.1 * trial.suggest_int("depth", 1, 3)
        trial.suggest_float("fixed", 0.5, 0.5)
        epochs = np.arange(1, 10)
        trials.append(
            RecordedTrial(trial.params, trial.distributions, quality - 1 / epochs, np.full(9, 60.0))
        )
    return RecordedCurves(trials, "maximize")


def test_a_file_of_curves_gives_back_what_was_written(tmp_path: Path) -> None:
    curves = recorded()
    curves.write(tmp_path / "curves.parquet")
    read = RecordedCurves.read(tmp_path / "curves.parquet")
    assert (read.direction, read.epochs, len(read.trials)) == ("maximize", 9, 40)
    for before, after in zip(curves.trials, read.trials, strict=True):
        assert (before.params, before.distributions) == (after.params, after.distributions)
        np.testing.assert_array_equal(before.values, after.values)


def test_a_rebuilt_space_asks_only_for_what_a_branch_has() -> None:
    curves, study = recorded(), optuna.create_study()
    for _ in range(30):
        trial = study.ask()
        curves.suggest(trial)
        assert ("depth" in trial.params) == (trial.params["branch"] == "b")
        assert trial.params["fixed"] == 0.5


def test_a_recorded_configuration_has_its_own_curve() -> None:
    curves = recorded()
    for trial in curves.trials:
        np.testing.assert_array_equal(curves.curve(trial.params)[0], trial.values)


def test_only_trials_trained_to_the_end_or_diverged_are_recorded() -> None:
    study = optuna.create_study(direction="maximize")
    for number, epochs in enumerate((3, 2, 1)):
        trial = study.ask()
        trial.suggest_float("x", 0, 1)
        for epoch in range(1, epochs + 1):
            trial.report(0.5, epoch)
        trial.set_user_attr("epochs", [{"epoch": e, "seconds": 2.0} for e in range(1, epochs + 1)])
        trial.set_user_attr("outcome", ("complete", "diverged", "pruned")[number])
        study.tell(trial, 0.5)
    curves = RecordedCurves.of_study(study)
    assert [trial.values.tolist()[0] for trial in curves.trials] == [0.5, 0.5]
    assert np.isnan(curves.trials[1].values).tolist() == [False, True, True]
    assert curves.trials[1].seconds.tolist() == [2.0, 2.0, 2.0]


@pytest.mark.parametrize("content", [None, b"", b"no parquet"])
def test_what_is_no_file_of_curves_is_refused(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "curves.parquet"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=r"curves\.parquet"):
        RecordedCurves.read(path)


def test_the_command_compares_numbers_of_workers(tmp_path: Path, capsys: Any) -> None:
    recorded().write(tmp_path / "curves.parquet")
    options = ["--workers", "1,4", "--seeds", "2", "--trials", "10", "--sampler", "random"]
    assert main(["--curves", str(tmp_path / "curves.parquet"), *options]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "nearest of 40" in lines[0]
    one, four = (line.split() for line in lines[-2:])
    assert (one[0], four[0]) == ("1", "4")
    assert float(one[2]) > 2 * float(four[2])  # hours


def test_the_command_says_in_one_line_what_is_wrong(tmp_path: Path, capsys: Any) -> None:
    assert main(["--curves", str(tmp_path / "nothing.parquet")]) == 2
    error = capsys.readouterr().err
    assert "nothing.parquet" in error
    assert error.count("\n") == 1


def test_best_over_time_keeps_the_best_and_passes_over_what_diverged() -> None:
    rows = pd.DataFrame({"time": [1.0, 2.0, 3.0, 4.0], "value": [0.5, math.nan, 0.4, 0.7]})
    times = np.array([0.5, 1.0, 3.5, 4.0])
    np.testing.assert_array_equal(best_over_time(rows, times, 1.0), [math.nan, 0.5, 0.5, 0.7])
    np.testing.assert_array_equal(best_over_time(rows, times, -1.0), [math.nan, 0.5, 0.4, 0.4])


def test_a_picture_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    searches = [run(constant(*np.linspace(0, 1, 20)), trials=20, workers=count) for count in (1, 2)]
    forecasts = {count: forecast([rows], 1.0) for count, rows in zip((1, 2), searches, strict=True)}
    plot(forecasts, tmp_path / "out.png", "a search")
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")
