"""Each outcome of the design once, with real Ray processes and a user's own space."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import outcomes_space
import pytest
from optuna.trial import TrialState
from rich.console import Console

from search.results import Results
from search.run import run
from search.settings import Settings

pytestmark = pytest.mark.timeout(900)  # the first test waits for Ray, the search and several workers


def search(folder: Path, *names: str, **settings: Any) -> Results:
    """One search on one slot over baselines by name, one trial each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(outcomes_space, "MARKER", str(folder / "died"))
        patch.setattr(outcomes_space, "BASELINES", {name: {"behaviour": name} for name in names})
        options: dict[str, Any] = {
            "trials": len(names),
            "max_epochs": 3,
            "max_concurrent": 1,
            "cpus_per_trial": 1,
            "asha": "stop",  # in which nothing waits: outcomes come in the order of the names
            "baselines": True,
            "confirm": False,
            "device": "cpu",
            "precision": "fp32",
            **settings,
        }
        return run(
            Settings(space="outcomes_space", dataset="digits", name="run", storage=folder, **options),
            console=Console(file=io.StringIO()),
        )


@pytest.fixture(scope="module")
def results(shared_ray: None, tmp_path_factory: pytest.TempPathFactory) -> Results:
    """One search in which every outcome comes up; the network over the limit does not count as trained."""
    names = ("healthy", "weak", "nan", "large", "out_of_memory", "raises", "dies_once", "better")
    return search(
        tmp_path_factory.mktemp("outcomes"), *names, trials=len(names) - 2, retries=0, max_params=50_000
    )


@pytest.fixture(scope="module")
def trials(results: Results) -> dict[str, optuna.trial.FrozenTrial]:
    return {
        trial.user_attrs["baseline"]: trial
        for trial in results.study.get_trials(deepcopy=False)
        if "baseline" in trial.user_attrs
    }


Trials = dict[str, optuna.trial.FrozenTrial]


def test_a_trial_trained_to_the_end_is_complete_with_its_last_score(trials: Trials) -> None:
    trial = trials["healthy"]
    assert trial.user_attrs["outcome"] == "complete"
    assert trial.state == TrialState.COMPLETE
    assert trial.value is not None
    assert trial.value == trial.intermediate_values[3] > 0.5
    assert list(trial.intermediate_values) == [1, 2, 3]


def test_a_weak_trial_is_pruned_with_every_value_reported(trials: Trials) -> None:
    trial = trials["weak"]
    assert trial.user_attrs["outcome"] == "pruned"
    assert trial.state == TrialState.PRUNED
    assert list(trial.intermediate_values) == [1], "the value at the stopping epoch is there"
    assert trial.value == trial.intermediate_values[1]


def test_a_score_that_is_no_number_is_diverged_and_infeasible_to_the_sampler(trials: Trials) -> None:
    trial = trials["nan"]
    assert trial.user_attrs["outcome"] == "diverged"
    assert trial.state == TrialState.PRUNED
    assert trial.constraints == {"finite": 1.0}


def test_a_network_over_max_params_is_infeasible_and_never_trained(trials: Trials) -> None:
    trial = trials["large"]
    assert trial.user_attrs["outcome"] == "infeasible"
    assert trial.constraints == {"feasible": 1.0}
    assert trial.intermediate_values == {}
    assert "--max-params 50,000" in trial.user_attrs["error"]


def test_out_of_memory_is_infeasible_and_a_new_worker_goes_on_without_blame(trials: Trials) -> None:
    trial = trials["out_of_memory"]
    assert trial.user_attrs["outcome"] == "infeasible"
    assert "out of memory" in trial.user_attrs["error"]
    after = next(t for t in trials.values() if t.number == trial.number + 1)
    assert len(after.user_attrs["stints"]) == 2  # the first of them never began


def test_an_exception_out_of_retries_is_failed_with_its_traceback(trials: Trials) -> None:
    trial = trials["raises"]
    assert trial.user_attrs["outcome"] == "failed"
    assert trial.state == TrialState.FAIL
    assert "this network raises on purpose" in trial.user_attrs["error"]
    assert "outcomes_space.py" in trial.user_attrs["error"], "the traceback names the file"


def test_a_worker_that_dies_is_no_outcome(trials: Trials) -> None:
    trial = trials["dies_once"]
    assert trial.user_attrs["outcome"] in ("complete", "pruned")
    assert [stint["from_epoch"] for stint in trial.user_attrs["stints"]] == [0, 0]
    assert 1 in trial.intermediate_values


def test_every_stint_says_when_it_began_and_ended_and_no_two_share_the_slot(trials: Trials) -> None:
    stints = [stint for trial in trials.values() for stint in trial.user_attrs.get("stints", ())]
    times = sorted((stint["begin"], stint["end"]) for stint in stints)
    moments = [moment for pair in times for moment in pair]
    assert moments == sorted(moments)
    for stint in stints:
        assert sum(stint.get("seconds", {}).values()) <= stint["end"] - stint["begin"]


def test_infeasible_configurations_do_not_count_as_trained(results: Results, trials: Trials) -> None:
    assert set(trials) == {
        "healthy", "weak", "nan", "large", "out_of_memory", "raises", "dies_once", "better",
    }  # fmt: skip
    assert trials["better"].user_attrs["outcome"] == "complete"
    assert results.stopped == "finished"
    assert len(results.trials) == 8


def test_only_the_best_keep_their_checkpoints(results: Results) -> None:
    kept = {int(path.parent.name) for path in results.folder.path.glob("trials/*/checkpoint-*.pt")}
    ranked = results.trials.dropna(subset="score")
    assert kept == set(ranked["trial"][:3])


def test_every_trained_trial_has_tensorboard_events(results: Results) -> None:
    trained = results.trials.loc[results.trials["epochs"] > 0, "trial"]
    for number in trained:
        assert list(results.folder.trial(number).glob("events.out.tfevents.*"))


def test_the_best_model_is_loaded_and_predicts_as_validation_scored(results: Results) -> None:
    from trainables.data import load_dataset

    model = results.best_model()
    data = load_dataset("digits", seed=0)
    predicted = model.probabilities(data.val.images).argmax(1)
    assert np.mean(predicted == data.val.labels) == pytest.approx(results.best["score"], abs=1e-6)
    assert results.best_config == model.config


@pytest.mark.slow
def test_a_search_that_runs_out_of_time_leaves_its_trial_unfinished(shared_ray: None, tmp_path: Path) -> None:
    results = search(tmp_path, "slow", max_epochs=1000, time_budget="30s")
    assert results.study.trials[0].state == TrialState.RUNNING
    assert results.trials.loc[0, "outcome"] == "unfinished"
    assert results.stopped == "time budget"
    assert (results.folder.path / "best.md").is_file()
