"""How confirmed configurations and final models are read from the three studies of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest

from search.database import sqlite_url
from search.final import CONFIRM, REFIT, final_models, final_study, stage_folder
from search.results import Results, RunFolder
from search.study import StudyRecord


def suggest(trial: optuna.Trial) -> None:
    trial.suggest_int("width", 1, 64)


def train(
    record: StudyRecord, scores: list[float], *, name: str = "", outcome: str = "complete", **facts: Any
) -> None:
    number, _ = record.ask(
        optuna.samplers.RandomSampler(seed=0), suggest, (name, {"width": 8}) if name else None
    )
    record.begin(number, facts)
    for epoch, score in enumerate(scores, 1):
        record.report(number, epoch, score)
    record.tell(number, outcome, scores[-1] if outcome == "complete" else None)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A search of four trials: 0 (a baseline) and 1 to 3."""
    folder = RunFolder(tmp_path / "mine")
    folder.path.mkdir()
    record = StudyRecord("mine", "maximize", sqlite_url(folder.database))
    record.set_attributes({"run": "mine", "metric": "accuracy"})
    train(record, [0.5], name="plain")
    for score in (0.7, 0.9, 0.8):
        train(record, [score])
    record.close()
    return folder


def confirm(run: RunFolder, scores: dict[int, list[float]], failed: tuple[int, ...] = ()) -> None:
    record = StudyRecord(f"mine/{CONFIRM}", "maximize", sqlite_url(run.database))
    for of, values in scores.items():
        for seed, value in enumerate(values):
            train(record, [value], name=f"trial {of}, seed {seed}", of=of, seed=seed)
    for of in failed:
        train(record, [0.1], outcome="diverged", of=of, seed=9)
    record.close()


def test_the_best_mean_wins_not_the_luckiest_search_score(run: RunFolder):
    confirm(run, {2: [0.80, 0.82], 3: [0.84, 0.86]})
    first, second = Results(run.path).confirmed
    assert (first.trial, first.mean, first.search_score) == (3, pytest.approx(0.85), 0.8)
    assert first.gap == pytest.approx(-0.05)
    assert first.deviation == pytest.approx(0.01 * 2**0.5)
    assert (second.trial, second.gap) == (2, pytest.approx(0.09))
    assert Results(run.path).best["trial"] == 3
    assert Results(run.path).document(1)["confirmed"][0]["scores"] == [0.84, 0.86]


def test_a_configuration_that_failed_with_a_seed_comes_after_those_that_did_not(run: RunFolder):
    confirm(run, {2: [0.99], 3: [0.84, 0.86]}, failed=(2,))
    assert [(one.trial, one.failures) for one in Results(run.path).confirmed] == [(3, 0), (2, 1)]


def test_a_single_seed_has_no_deviation(run: RunFolder):
    confirm(run, {2: [0.8]})
    assert [one.deviation for one in Results(run.path).confirmed] == [0.0]


def test_without_further_studies_nothing_is_confirmed_and_best_is_the_model(run: RunFolder):
    results = Results(run.path)
    assert results.confirmed == []
    assert final_study(run, CONFIRM) is None
    assert final_models(results) == []
    run.best.mkdir()
    (run.best / "config.json").touch()
    (model,) = final_models(results)
    assert (model.folder, model.trial, model.winner) == (run.best, 2, True)
    assert results.best["trial"] == 2


def test_models_of_the_winner_come_first_and_those_of_an_earlier_winner_not_at_all(run: RunFolder):
    confirm(run, {2: [0.8], 3: [0.9]})
    record = StudyRecord(f"mine/{REFIT}", "minimize", sqlite_url(run.database))
    for of, name in ((2, ""), (0, "plain"), (3, ""), (3, "")):
        number, _ = record.ask(optuna.samplers.RandomSampler(seed=0), suggest)
        record.begin(number, {"of": of, "name": name})
        record.report(number, 1, 0.1)
        record.tell(number, "complete", 0.1)
    record.close()
    models = final_models(Results(run.path))
    assert [(model.trial, model.baseline, model.winner) for model in models] == [
        (3, "", True),
        (3, "", True),
        (0, "plain", False),
    ]
    assert models[0].folder == stage_folder(run, REFIT, 2)


def test_the_search_is_found_among_the_studies_of_its_run(run: RunFolder):
    confirm(run, {2: [0.8]})
    assert Results(run.path).study.study_name == "mine"
    assert len(Results(run.path).trials) == 4
