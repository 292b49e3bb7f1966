"""Studies of an unusual size or content: the page stays small, and there is always one."""

from __future__ import annotations

import math
import random
from pathlib import Path

import optuna
import pytest
from made_up_run import report, suggest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from read_report import Page, left_out

from search.best_document import best_document
from search.reporting.page import render
from search.reporting.record import Record


def large_record(path: Path, trials: int, epochs: int) -> Record:
    """A search of many trials, every one of them trained to the end."""
    study = optuna.create_study(study_name="mine", direction="maximize")
    asked = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for number in range(trials):
        trial = asked.ask()
        suggest(trial)
        rows = [report(trial.params, epoch) for epoch in range(1, epochs + 1)]
        scores = {row["epoch"]: row["val_accuracy"] for row in rows}
        begin = 1000.0 * (number // 8)
        study.add_trial(
            optuna.trial.create_trial(
                value=scores[epochs],
                params=trial.params,
                distributions=trial.distributions,
                intermediate_values=scores,
                user_attrs={
                    "outcome": "complete",
                    "epochs": rows,
                    "seconds": sum(row["seconds"] for row in rows),
                    "network_parameters": 1000,
                    "arrivals": {str(level): number for level in (1, 3, 9, 27)},
                    "gone_on": [1, 3, 9],
                    "stints": [
                        {"from_epoch": 0, "begin": begin, "end": begin + 999, "seconds": {"training": 900.0}}
                    ],
                },
            )
        )
    return Record(
        path=path,
        attributes={"run": "mine", "space": "cnn", "dataset": "digits", "metric": "accuracy"},
        maximize=True,
        trials=study.get_trials(deepcopy=False),
        document=best_document(study, 10),
        settings={"task": {"max_epochs": epochs}},
        confirmed=[],
        final_trials={"confirm": [], "refit": []},
        evaluation=None,
    )


def test_a_thousand_trials_of_27_epochs_stay_below_10_megabytes(tmp_path: Path) -> None:
    text = render(large_record(tmp_path, 1000, 27))
    assert len(text.encode("utf-8")) < 10e6
    page = Page(text)
    shown = {source: value for source, value, _ in page.values}
    drawn = {number for trace in page.figure("curves") for number in trace["customdata"]} - {None}
    assert shown["count:curves-drawn"] == len(drawn) == 200
    assert shown["count:trained"] == shown["count:scored"] == 1000
    assert shown["count:lines-drawn"] == len(page.figure("parallel")) == 100
    assert shown["count:compared-epoch"] == 27, "a hundred trials have come so far"
    assert shown["count:compared"] == 1000
    assert len(page.figure("slots")[0]["x"]) == 1000


def test_the_best_curves_are_among_those_drawn(tmp_path: Path) -> None:
    record = large_record(tmp_path, 300, 3)
    page = Page(render(record))
    drawn = {number for trace in page.figure("curves") for number in trace["customdata"]} - {None}
    ranked = sorted(record.trials, key=lambda trial: -(trial.value or 0.0))
    assert {trial.number for trial in ranked[:100]} <= drawn
    assert len(drawn) == 200


def odd_record(path: Path, seed: int) -> Record:
    """A few trials with equal scores, or scores that are no numbers, and gaps in what is noted of them."""
    draw = random.Random(seed)
    study = optuna.create_study(direction=draw.choice(["maximize", "minimize"]))
    mode = draw.choice(["equal", "zero", "odd"])
    kinds = {
        "a": FloatDistribution(1e-5, 1, log=True),
        "b": CategoricalDistribution(["x", None, True, 1.5]),
        "c": IntDistribution(1, 1),
        "d": CategoricalDistribution([1, 2, 4]),
    }
    for number in range(draw.choice([1, 4, 5, 9, 20])):
        steps = draw.choice([0, 1, 3, 9])
        known = {"equal": [0.5], "zero": [0.0], "odd": [math.nan, math.inf, 0.3]}[mode]
        scores = {epoch: draw.choice(known) for epoch in range(1, steps + 1)}
        all_params = {"a": draw.choice([1e-5, 0.3]), "b": draw.choice(["x", None, True]), "c": 1, "d": 4}
        params = {name: value for name, value in all_params.items() if draw.random() < 0.8}
        noted = {
            "seconds": 2.0 * steps,
            "stints": [{"from_epoch": 0, "begin": number, "end": number + 5.0, "seconds": {"training": 1.0}}],
            "epochs": [{"epoch": epoch, "seconds": 2.0, "val_loss": math.nan} for epoch in scores],
            "arrivals": {"1": number},
        }
        study.add_trial(
            optuna.trial.create_trial(
                state=optuna.trial.TrialState.PRUNED,
                params=params,
                distributions={name: kinds[name] for name in params},
                intermediate_values=scores,
                user_attrs={"outcome": draw.choice(["pruned", "diverged", "infeasible"])}
                | {name: value for name, value in noted.items() if draw.random() < 0.85},
            )
        )
    return Record(
        path=path,
        attributes={"run": "odd", "metric": draw.choice(["accuracy", "loss", "macro_f1"])},
        maximize=study.direction.name == "MAXIMIZE",
        trials=study.get_trials(deepcopy=False),
        document=best_document(study, 10),
        settings={},
        confirmed=[],
        final_trials={"confirm": [], "refit": []},
        evaluation=None,
    )


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("seed", range(8))
def test_an_odd_study_has_a_page_all_the_same(tmp_path: Path, seed: int) -> None:
    page = Page(render(odd_record(tmp_path, seed)))
    # seven of the search, and one to three of the winner
    assert 8 <= len(page.data) - 1 + left_out(page) <= 10
