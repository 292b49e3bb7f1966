"""After the search: the best are confirmed with new seeds, the winner is refitted, and neither is lost."""

from __future__ import annotations

import io
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from test_command import searching

from search.final import CONFIRM, REFIT, final_models, final_study
from search.results import Results
from search.run import resume, run
from search.settings import Settings
from trainables.classifier import load_classifier
from trainables.data import load_dataset

pytestmark = pytest.mark.slow  # tests/search_tests/test_finish_stages.py tries the same without training

QUICK = {
    "space": "benchmarks.small_space",
    "dataset": "digits",
    "max_epochs": 2,
    "device": "cpu",
    "precision": "fp32",
    "seed": 3,
}


def settings(folder: Path, **options: object) -> Settings:
    return Settings(**{**QUICK, "trials": 3, "asha": "none", "storage": folder, "name": "run", **options})


@pytest.fixture(scope="module")
def finished(shared_ray: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Results, str]:
    out = Console(file=io.StringIO(), width=100)
    folder = tmp_path_factory.mktemp("finish")
    results = run(settings(folder, confirm_top=2, confirm_seeds=2), console=out)
    return results, out.file.getvalue()


def test_the_best_few_are_trained_anew_and_the_best_mean_wins(finished: tuple[Results, str]) -> None:
    results, output = finished
    study = final_study(results, CONFIRM)
    assert study is not None
    best = results.trials["trial"].tolist()[:2]
    assert sorted((t.user_attrs["of"], t.user_attrs["seed"]) for t in study.trials) == sorted(
        (number, seed) for number in best for seed in (0, 1)
    )
    searched = {trial.number: trial for trial in results.study.trials}
    for trial in study.trials:
        assert trial.params == searched[trial.user_attrs["of"]].params
        assert trial.last_step == 2
        assert trial.value not in searched[trial.user_attrs["of"]].intermediate_values.values(), (
            "another seed"
        )
    assert len({trial.value for trial in study.trials}) > 2
    means = {
        number: np.mean([t.value for t in study.trials if t.user_attrs["of"] == number]) for number in best
    }
    winner = max(means, key=lambda number: (means[number], -number))
    assert results.confirmed[0].trial == results.best["trial"] == winner
    assert f"confirmed: trial {winner} earns {100 * means[winner]:.2f} %" in output
    assert "unconfirmed" not in output
    assert "Confirmed with new seeds" in (results.folder.path / "best.md").read_text()


def test_the_winner_is_refitted_on_every_image_and_is_what_best_holds(finished: tuple[Results, str]) -> None:
    results, _ = finished
    study = final_study(results, REFIT)
    assert study is not None
    winner = results.confirmed[0].trial
    assert [trial.user_attrs["of"] for trial in study.trials] == [winner, winner]
    for trial in study.trials:
        assert all(row["val_accuracy"] is None for row in trial.user_attrs["epochs"]), "nothing scored it"
    models = final_models(results)
    first, second = (load_classifier(model.folder) for model in models)
    images = load_dataset("digits").train.images[:50]
    assert not np.allclose(first.probabilities(images), second.probabilities(images))
    assert np.allclose(results.best_model().probabilities(images), first.probabilities(images))
    assert not list(results.folder.path.glob("*/*/*.tmp"))
    assert not list(results.folder.path.glob("confirm/*/checkpoint*"))
    assert not list(results.folder.path.glob("refit/*/checkpoint*"))


def test_a_resume_does_only_what_more_seeds_ask_for(finished: tuple[Results, str]) -> None:
    results, _ = finished
    out = Console(file=io.StringIO(), width=100)
    resume(results.folder.path, console=out)
    assert "nothing is left to do" in out.file.getvalue()
    before = {trial.number: trial.value for trial in final_study(results, CONFIRM).trials}
    resume(results.folder.path, console=out, confirm_seeds=3)
    after = final_study(results, CONFIRM)
    assert after is not None
    assert len(after.trials) == len(before) + 2
    assert all(after.trials[number].value == value for number, value in before.items())
    assert [len(one.scores) for one in results.confirmed] == [3, 3]


def test_what_is_not_confirmed_says_so(shared_ray: None, tmp_path: Path) -> None:
    out = Console(file=io.StringIO(), width=100)
    results = run(settings(tmp_path, trials=1, confirm=False), console=out)
    assert results.confirmed == []
    assert "unconfirmed: " in out.file.getvalue()
    for name in ("best.md", "best.json"):
        text = (results.folder.path / name).read_text()
        assert ("Unconfirmed: " in text) == (name == "best.md")
    assert not (results.folder.path / "confirm").exists()


def test_a_time_budget_that_is_too_short_leaves_the_search_unconfirmed(
    shared_ray: None, tmp_path: Path
) -> None:
    out = Console(file=io.StringIO(), width=100)
    # a thousand epochs do not fit on any machine
    results = run(settings(tmp_path, trials=500, max_epochs=1000, time_budget="40s"), console=out)
    text = out.file.getvalue()
    assert "up to half of the budget is kept for that, two thirds if need be" in text
    assert "too little is left of the budget to confirm anything" in text
    assert results.stopped == "time budget"
    assert results.has_best


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_driver_that_ends_while_it_confirms_goes_on_there(tmp_path: Path, number: signal.Signals) -> None:
    options = ("--space=benchmarks.small_space", "--trials=3", "--max-epochs=4", "--asha=none", "--seed=3")
    with searching(*options, "--confirm-top=2", "--confirm-seeds=2", storage=tmp_path) as search:
        deadline = time.monotonic() + 600
        while not list((tmp_path / "run").glob("confirm/*/events*")):
            assert search.process.poll() is None, search.process.communicate()[0]
            assert time.monotonic() < deadline
            search.look()
            time.sleep(0.5)
        os.kill(search.process.pid, number)
        assert search.finish() in (-signal.SIGKILL, 130), "it was not over before"
    interrupted = search
    searched = Results(tmp_path / "run").trials.to_dict()
    with searching("--resume", str(tmp_path / "run"), storage=tmp_path) as search:
        assert search.finish() == 0, search.output
    assert interrupted.left_over() == []  # asked here, for Ray's agents take a minute to leave
    results = Results(tmp_path / "run")
    assert results.trials.to_dict() == searched, "the search was not touched"
    assert results.stopped == "finished"
    assert [len(one.scores) for one in results.confirmed] == [2, 2]
    assert len(final_models(results)) == 2
    study = final_study(results, CONFIRM)
    assert study is not None
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 4
