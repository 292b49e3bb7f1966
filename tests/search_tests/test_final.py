"""How confirmed configurations and final models are read from the three studies of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest

from search.database import sqlite_url
from search.final import (
    CONFIRM,
    PLAN,
    REFIT,
    Confirmed,
    confirmation,
    final_models,
    final_study,
    plan_of,
    stage_folder,
)
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


def confirm(
    run: RunFolder, scores: dict[int, list[float]], failed: tuple[int, ...] = (), seeds: int | None = None
) -> None:
    record = StudyRecord(f"mine/{CONFIRM}", "maximize", sqlite_url(run.database))
    for of, values in scores.items():
        for seed, value in enumerate(values):
            train(record, [value], name=f"trial {of}, seed {seed}", of=of, seed=seed)
    for of in failed:
        train(record, [0.1], outcome="diverged", of=of, seed=len(scores.get(of, [])))
    record.close()
    plan = plan_of(sorted({*scores, *failed}), seeds or max(map(len, scores.values())))
    search = StudyRecord.reopen(sqlite_url(run.database), "mine")
    search.set_attributes({PLAN: plan})
    search.close()


def give_model(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.safetensors").touch()


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
    assert [one.deviation for one in Results(run.path).confirmed] == [None]


def test_a_lucky_loss_is_a_gap_above_zero_too(run: RunFolder):
    assert Confirmed(trial=1, baseline="", search_score=0.1, scores=(0.3,), maximize=False).gap == 0.3 - 0.1


def test_until_every_seed_has_ended_nothing_is_confirmed(run: RunFolder):
    confirm(run, {2: [0.80, 0.82], 3: [0.9]}, seeds=2)
    results = Results(run.path)
    assert (confirmation(results).ended, confirmation(results).planned) == (3, 4)
    assert results.confirmed == []
    assert results.best["trial"] == 2, "the best of the search"


def test_a_search_that_went_on_is_unconfirmed_whatever_was_confirmed_before(run: RunFolder):
    confirm(run, {2: [0.80], 3: [0.9]})
    search = StudyRecord.reopen(sqlite_url(run.database), "mine")
    search.set_attributes({PLAN: None})
    search.close()
    assert Results(run.path).confirmed == []


def test_a_configuration_that_fails_with_every_seed_is_named(run: RunFolder):
    confirm(run, {3: [0.9]}, failed=(2,))
    assert confirmation(Results(run.path)).failed == [2]


def test_without_further_studies_nothing_is_confirmed_and_best_is_the_model(run: RunFolder):
    results = Results(run.path)
    assert results.confirmed == []
    assert final_study(results, CONFIRM) is None
    assert final_models(results) == []
    run.best.mkdir()
    (run.best / "config.json").write_text('{"about": {"trial": 3}}')
    (model,) = final_models(results)
    assert (model.folder, model.trial, model.winner) == (run.best, 3, True), "what it says of itself"
    assert results.best["trial"] == 2


def refit(run: RunFolder, models: list[tuple[int, str]]) -> None:
    record = StudyRecord(f"mine/{REFIT}", "minimize", sqlite_url(run.database))
    for of, name in models:
        number, _ = record.ask(optuna.samplers.RandomSampler(seed=0), suggest)
        record.begin(number, {"of": of, "name": name})
        record.report(number, 1, 0.1)
        record.tell(number, "complete", 0.1)
        give_model(stage_folder(run, REFIT, number))
    record.close()


def test_models_of_the_winner_come_first_and_those_of_an_earlier_winner_not_at_all(run: RunFolder):
    confirm(run, {2: [0.8], 3: [0.9]})
    refit(run, [(2, ""), (0, "plain"), (3, ""), (3, ""), (3, "")])
    (stage_folder(run, REFIT, 4) / "model.safetensors").unlink()
    models = final_models(Results(run.path))
    assert [(model.trial, model.baseline, model.winner) for model in models] == [
        (3, "", True),
        (3, "", True),
        (0, "plain", False),
    ]
    assert models[0].folder == stage_folder(run, REFIT, 2)


def test_a_winner_that_was_not_refitted_is_what_the_search_left_of_it(run: RunFolder):
    confirm(run, {2: [0.8], 3: [0.9]})
    refit(run, [(0, "plain")])
    assert final_models(Results(run.path)) == [], "a baseline alone is no winner"
    run.best.mkdir()
    (run.best / "config.json").write_text('{"about": {"trial": 3}}')
    models = final_models(Results(run.path))
    assert [(model.trial, model.winner) for model in models] == [(3, True), (0, False)]


def test_the_search_is_found_among_the_studies_of_its_run(run: RunFolder):
    confirm(run, {2: [0.8]})
    assert Results(run.path).study.study_name == "mine"
    assert len(Results(run.path).trials) == 4
