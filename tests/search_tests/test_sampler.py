import json
import os
import subprocess
import sys
import warnings

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from search.sampler import make_sampler, samplers
from search.study import StudyRecord


def suggest(trial: optuna.Trial) -> dict:
    """A space whose parameters depend on each other."""
    if trial.suggest_categorical("optimizer", ["sgd", "adam"]) == "sgd":
        trial.suggest_float("sgd.learning_rate", 1e-3, 1.0, log=True)
        trial.suggest_float("sgd.momentum", 0.0, 0.99)
    else:
        trial.suggest_float("adam.learning_rate", 1e-5, 1e-1, log=True)
    for stage in range(trial.suggest_int("stages", 1, 3)):
        trial.suggest_int(f"width.{stage}", 8, 64)
    return dict(trial.params)


def filled(name: str, trials: int = 16, seed: int = 0) -> StudyRecord:
    record = StudyRecord("mine", "maximize")
    for number in range(trials):
        asked, params = record.ask(make_sampler(name, seed, number), suggest)
        record.begin(asked, {})
        for epoch in range(1, 2 + number % 3):
            record.report(asked, epoch, len(json.dumps(params)) / 100 + number / 1000)
        if number % 5 == 4:
            record.tell(asked, "diverged")
        elif number % 5 < 3:
            record.tell(asked, "pruned")  # the rest stay unfinished
    return record


def proposals(name: str) -> list[dict]:
    record = filled(name)
    return [record.ask(make_sampler(name, 0, number), suggest)[1] for number in (16, 17)]


@pytest.mark.parametrize("name", ["tpe", "random"])
def test_same_seed_number_and_study_propose_the_same_in_a_fresh_process(name):
    program = (
        f"import sys; sys.path[:0] = {sys.path!r}\n"
        f"import json, test_sampler; print(json.dumps(test_sampler.proposals({name!r})))"
    )
    # the order of a set of strings depends on this
    environment = os.environ | {"PYTHONHASHSEED": "7"}
    output = subprocess.check_output([sys.executable, "-c", program], env=environment)
    assert json.loads(output) == proposals(name)


@pytest.mark.parametrize("name", ["tpe", "random"])
def test_other_numbers_and_seeds_propose_otherwise(name):
    drawn = [
        json.dumps(filled(name).ask(make_sampler(name, seed, number), suggest)[1])
        for seed, number in ((0, 16), (0, 17), (1, 16))
    ]
    assert len(set(drawn)) == 3


def test_tpe_learns_of_conditional_parameters_together(monkeypatch):
    def independent(self, study, trial, name, distribution):
        raise AssertionError(f"{name} is drawn on its own")

    record = filled("tpe", trials=30)
    monkeypatch.setattr(optuna.samplers.TPESampler, "sample_independent", independent)
    asked = set()
    for number in range(30, 36):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            sampler = make_sampler("tpe", 0, number)
        # relative, as a group, whichever branch is taken: never one by one at random
        _, params = record.ask(sampler, suggest)
        record.begin(number, {})
        asked |= params.keys()
    assert {"optimizer", "stages"} < asked


def test_tpe_follows_what_scored_well():
    record = StudyRecord("mine", "maximize")

    def one(trial):
        return trial.suggest_float("x", 0, 1)

    for number in range(40):
        asked, x = record.ask(make_sampler("tpe", 0, number), one)
        record.begin(asked, {})
        record.report(asked, 1, -abs(x - 0.8))
        record.tell(asked, "pruned")
    drawn = [record.ask(make_sampler("tpe", 0, number), one)[1] for number in range(40, 50)]
    assert sum(abs(x - 0.8) < 0.2 for x in drawn) >= 7


def test_unknown_sampler_is_refused():
    with pytest.raises((ValueError, AssertionError)):
        make_sampler("grid", 0, 0)


def test_tpe_learns_from_trials_that_wait_at_a_rung() -> None:
    """Twenty trials wait, none is finished: good ones lie near 0.9, and so do proposals."""
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(20):
        trial = study.ask()
        trial.report(-abs(trial.suggest_float("x", 0, 1) - 0.9), 1)
    distances = []
    for number in range(20, 40):
        study.sampler = make_sampler("tpe", 0, number)
        distances.append(abs(study.ask().suggest_float("x", 0, 1) - 0.9))
    assert sorted(distances)[10] < 0.25, "random draws would lie about 0.4 away"


def test_what_waits_stays_unfinished_in_the_study() -> None:
    study = optuna.create_study(sampler=make_sampler("tpe", 0, 0))
    for _ in range(12):
        study.ask().report(1.0, 1)
    assert {trial.state for trial in study.get_trials(deepcopy=False)} == {TrialState.RUNNING}


def made_here(seed: int) -> optuna.samplers.BaseSampler:
    return optuna.samplers.RandomSampler(seed=seed)


@pytest.mark.parametrize("name", ["multifidelity", "tpe", "random", f"{__name__}:made_here"])
def test_every_name_leads_to_a_sampler_that_draws_by_seed_and_number(name: str) -> None:
    def value(seed: int, number: int) -> float:
        study = optuna.create_study(sampler=make_sampler(name, seed, number))
        for _ in range(number):
            study.add_trial(create_trial(value=0.0))
        return study.ask().suggest_float("x", 0, 1)

    assert value(0, 0) == value(0, 0)
    assert len({value(0, 0), value(0, 1), value(1, 0)}) == 3


@pytest.mark.parametrize("name", ["", "grid", "search.sampler:nothing", "no_such_module:f", ":f", "m:"])
def test_a_name_that_leads_to_nothing_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="sampler"):
        samplers(name, 0)


def test_a_function_of_ones_own_must_make_a_sampler() -> None:
    with pytest.raises(ValueError, match="not an Optuna sampler"):
        samplers("builtins:str", 0)(0)
