"""What the sampler that knows fidelity proposes."""

from __future__ import annotations

import math
import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import TrialState, create_trial

from search import gaussian_process as gp
from search import multifidelity
from search.multifidelity import MultifidelitySampler

optuna.logging.set_verbosity(optuna.logging.WARNING)


def branches(trial: optuna.Trial) -> float:
    """To be minimized: two branches with parameters of their own; 0 is the best, in branch a."""
    common = (trial.suggest_float("x", 0, 1) - 0.3) ** 2 + (trial.suggest_float("y", 0, 1) - 0.7) ** 2
    if trial.suggest_categorical("branch", ["a", "b"]) == "a":
        rate = math.log10(trial.suggest_float("a.rate", 1e-4, 1.0, log=True))
        return common + 0.1 * (rate + 2.5) ** 2 + 0.02 * abs(trial.suggest_int("a.depth", 1, 9) - 4)
    return common + 0.15 + (trial.suggest_float("b.rate", 0, 1) - 0.5) ** 2


def bowl(trial: optuna.Trial) -> float:
    point = np.array([trial.suggest_float(f"x{i}", 0, 1) for i in range(6)])
    return float(((point - np.linspace(0.2, 0.8, 6)) ** 2 * [4, 2, 1, 1, 0.1, 0.1]).sum())


@pytest.mark.slow
@pytest.mark.parametrize("function", [bowl, branches])
def test_better_than_random_after_60_trials(function: Callable[[optuna.Trial], float]) -> None:
    def best(sampler: optuna.samplers.BaseSampler) -> float:
        study = optuna.create_study(sampler=sampler)
        study.optimize(function, n_trials=60)
        return study.best_value

    ours = [best(MultifidelitySampler(seed)) for seed in range(5)]
    random = [best(optuna.samplers.RandomSampler(seed=seed)) for seed in range(5)]
    assert sum(our < other for our, other in zip(ours, random, strict=True)) >= 4
    assert np.median(ours) < 0.5 * np.median(random)


def trained(trial: optuna.Trial) -> float:
    """To be maximized: nine epochs with pruning after each."""
    quality = 1.0 - branches(trial)
    for epoch in range(1, 10):
        trial.report(quality - 0.5 / epoch, epoch)
        if trial.should_prune():
            raise optuna.TrialPruned
    return quality - 0.5 / 9


def pruned_study(seed: int, trials: int) -> optuna.Study:
    study = optuna.create_study(
        direction="maximize",
        sampler=MultifidelitySampler(seed),
        pruner=optuna.pruners.SuccessiveHalvingPruner(),
    )
    study.optimize(trained, n_trials=trials)
    return study


@pytest.mark.slow
def test_learns_from_pruned_trials_in_plain_optuna() -> None:
    studies = [pruned_study(seed, 60) for seed in range(8)]
    best = np.array([study.best_value for study in studies])
    # no more than 0.795 in branch b, which is the better one early and holds some searches for good
    assert (best > 0.8).sum() >= 6
    assert np.median(best) > 0.9
    assert any(trial.state == TrialState.PRUNED for study in studies for trial in study.trials)


def test_works_in_threads() -> None:
    study = optuna.create_study(sampler=MultifidelitySampler(0))
    study.optimize(branches, n_trials=24, n_jobs=3)
    assert len(study.trials) == 24


PROPOSE = """
import sys
sys.path[:0] = {path!r}
from test_multifidelity import pruned_study
print([trial.params for trial in pruned_study(3, 15).trials])
"""


@pytest.mark.slow
def test_another_process_proposes_the_same() -> None:
    here = [trial.params for trial in pruned_study(3, 15).trials]
    path = [str(__import__("pathlib").Path(__file__).parent), *sys.path]
    there = subprocess.run(
        [sys.executable, "-c", PROPOSE.format(path=path)], capture_output=True, text=True, check=True
    )
    assert there.stdout.strip() == str(here)


def test_proposals_in_a_conditional_space_do_not_depend_on_who_asked_before() -> None:
    """As when each trial is asked for by a new process, in one that asks for all."""

    def tree(trial: optuna.Trial) -> float:
        first, depth = trial.suggest_categorical("first", ["p", "q", "r"]), trial.suggest_int("depth", 1, 4)
        score = trial.suggest_float("x", 0, 1) / 2
        if first == "p":
            score += trial.suggest_float("y", 0, 1)
        elif depth > 2:
            score += trial.suggest_float("z", 0, 1) / 2
        return score + (trial.suggest_float("w", 0, 1) / 5 if score > 0.3 else 0.0)

    def proposed(*, anew: bool) -> list[dict[str, Any]]:
        study = optuna.create_study(direction="maximize", sampler=MultifidelitySampler(0))
        for _ in range(24):
            if anew:
                study.sampler = MultifidelitySampler(0)
            trial = study.ask()
            score = tree(trial)
            trial.report(score, 1)
            study.tell(trial, score)
        return [trial.params for trial in study.trials]

    assert proposed(anew=True) == proposed(anew=False)


def test_a_sampler_made_anew_or_unpickled_proposes_what_the_old_one_would() -> None:
    study = pruned_study(1, 25)
    proposals = []
    for sampler in (study.sampler, MultifidelitySampler(1), pickle.loads(pickle.dumps(study.sampler))):
        copy = optuna.create_study(direction="maximize", sampler=sampler)
        copy.add_trials(study.trials)
        trial = copy.ask()
        branches(trial)
        proposals.append(trial.params)
    assert proposals[0] == proposals[1] == proposals[2]


def told(
    count: int, score: Callable[[int, dict[str, float]], float], direction: str = "maximize"
) -> optuna.Study:
    """A study of trials that ran one epoch."""
    rng = np.random.default_rng(0)
    study = optuna.create_study(direction=direction, sampler=MultifidelitySampler(0))
    ranges = {"x": FloatDistribution(0, 1), "y": FloatDistribution(0, 1)}
    for number in range(count):
        params = {"x": float(rng.random()), "y": float(rng.random())}
        value = score(number, params)
        study.add_trial(
            create_trial(
                state=TrialState.PRUNED, params=params, distributions=ranges, intermediate_values={1: value}
            )
        )
    return study


def ask(study: optuna.Study) -> dict[str, Any]:
    trial = study.ask()
    trial.suggest_float("x", 0, 1)
    trial.suggest_float("y", 0, 1)
    return trial.params


def sizes_of_models(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of points of each model made from now on."""
    made: list[int] = []

    class Counted(gp.GaussianProcess):
        def __init__(self, points: Any, *others: Any, **options: Any) -> None:
            made.append(len(points))
            super().__init__(points, *others, **options)

    monkeypatch.setattr(multifidelity, "GaussianProcess", Counted)
    return made


@pytest.mark.slow
def test_64_parallel_proposals_all_differ_and_spread_out() -> None:
    study = told(20, lambda number, params: -((params["x"] - 0.5) ** 2))
    points = np.array([list(ask(study).values()) for _ in range(64)])
    apart = np.linalg.norm(points[:, None] - points[None], axis=2) + np.eye(64)
    assert apart.min() > 1e-5
    assert points.std(axis=0)[1] > 0.1, "y does nothing: proposals lie all over it, x is known by now"


@pytest.mark.parametrize(("direction", "sign"), [("maximize", 1.0), ("minimize", -1.0)])
def test_both_directions_are_followed(direction: str, sign: float) -> None:
    study = told(40, lambda number, params: -sign * (params["x"] - 0.8) ** 2, direction)
    assert abs(ask(study)["x"] - 0.8) < 0.15


@pytest.mark.parametrize(
    ("score", "modelled"),
    [
        (lambda number, params: 0.1, False),
        (lambda number, params: math.sin(1e4 * number**2), False),
        (lambda number, params: params["x"], True),
    ],
    ids=["at chance", "noise", "learning"],
)
def test_a_model_is_made_only_of_scores_that_tell_something(
    score: Callable[..., float], modelled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = sizes_of_models(monkeypatch)
    ask(told(30, score))
    assert bool(made) == modelled


def test_what_diverged_is_avoided() -> None:
    # scores rise to the right, and beyond 0.7 there are none
    study = told(40, lambda number, params: math.nan if params["x"] > 0.7 else params["x"])
    assert all(0.4 < ask(study)["x"] < 0.85 for _ in range(3))


def test_what_breaks_a_constraint_is_avoided_however_well_it_scored() -> None:
    study = told_with_constraint(0.7)
    assert all(0.4 < ask(study)["x"] < 0.85 for _ in range(3))


def told_with_constraint(limit: float) -> optuna.Study:
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(40):
        trial = study.ask()
        x = trial.suggest_float("x", 0, 1)
        trial.suggest_float("y", 0, 1)
        trial.report(x, 1)
        trial.set_constraint("feasible", float(x > limit))
        study.tell(trial, state=TrialState.PRUNED)
    study.sampler = MultifidelitySampler(0)
    return study


def test_only_values_of_the_same_step_are_compared() -> None:
    # every trial scores higher with x at epoch 1; at epoch 3 it is the other way round
    ranges = {"x": FloatDistribution(0, 1), "y": FloatDistribution(0, 1)}
    study = optuna.create_study(direction="maximize", sampler=MultifidelitySampler(0))
    for number in range(30):
        x = (number + 0.5) / 30
        late = {3: 2.0 - x} if number % 2 else {}
        study.add_trial(
            create_trial(
                state=TrialState.PRUNED,
                params={"x": x, "y": 0.5},
                distributions=ranges,
                intermediate_values={1: x, **late},
            )
        )
    assert ask(study)["x"] < 0.3


@pytest.mark.parametrize(
    "score",
    [
        lambda number, params: 0.5,
        lambda number, params: math.nan,
        lambda number, params: -math.inf if number % 2 else 1.0,
        lambda number, params: 1e300 * (-1) ** number,
        lambda number, params: 1e-300 * number,
    ],
    ids=["all equal", "all NaN", "half infinite", "huge", "tiny"],
)
@pytest.mark.parametrize("count", [1, 5, 6, 30])
def test_strange_scores_still_give_a_proposal(score: Callable[..., float], count: int) -> None:
    params = ask(told(count, score))
    assert 0 <= params["x"] <= 1
    assert 0 <= params["y"] <= 1


def test_a_space_without_parameters_or_with_single_values_works() -> None:
    study = optuna.create_study(sampler=MultifidelitySampler(0))
    study.optimize(lambda trial: 1.0, n_trials=10)

    def single(trial: optuna.Trial) -> float:
        trial.suggest_categorical("only", ["a"])
        trial.suggest_float("still", 0.5, 0.5)
        return trial.suggest_float("x", 0, 1)

    study = optuna.create_study(sampler=MultifidelitySampler(0))
    study.optimize(single, n_trials=15)
    assert study.best_params["only"] == "a"


def test_a_range_that_depends_on_another_parameter_is_respected() -> None:
    def nested(trial: optuna.Trial) -> float:
        width = trial.suggest_int("width", 1, 8)
        return float(trial.suggest_int("inner", 0, width) - width)

    study = optuna.create_study(sampler=MultifidelitySampler(0))
    study.optimize(nested, n_trials=30)
    assert all(trial.params["inner"] <= trial.params["width"] for trial in study.trials)


def test_no_configuration_is_proposed_twice_while_there_are_others() -> None:
    study = optuna.create_study(sampler=MultifidelitySampler(0))
    ranges: dict[str, BaseDistribution] = {
        "a": IntDistribution(0, 5),
        "b": CategoricalDistribution([0, 1, 2]),
    }
    for _ in range(18):
        trial = study.ask(ranges)
        study.tell(trial, trial.params["a"] + trial.params["b"])
    seen = {tuple(trial.params.values()) for trial in study.trials[1:]}
    assert len(seen) == 17  # the first is drawn before anything is known of the space
    study.tell(study.ask(ranges), 0.0)  # all are used up: proposes all the same


def test_several_objectives_are_refused() -> None:
    study = optuna.create_study(directions=["minimize", "maximize"], sampler=MultifidelitySampler(0))
    with pytest.raises(ValueError, match="multi-objective"):
        study.ask().suggest_float("x", 0, 1)


def test_what_a_proposal_computes_with_is_bounded_however_many_trials_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its time follows from that; `benchmarks/scale.py` measures it."""
    made = sizes_of_models(monkeypatch)
    rng = np.random.default_rng(0)
    study = optuna.create_study(direction="maximize", sampler=MultifidelitySampler(0))
    ranges: dict[str, BaseDistribution] = {f"x{i}": FloatDistribution(0, 1) for i in range(3)}
    for number in range(1000):
        params = {name: float(rng.random()) for name in ranges}
        reported = {1: params["x0"]} | ({3: params["x0"]} if number % 2 == 0 else {})
        study.add_trial(
            create_trial(
                state=TrialState.RUNNING,
                params=params,
                distributions=ranges,
                intermediate_values=reported,
            )
        )
    study.ask(ranges)
    assert max(made) == multifidelity.BEST + multifidelity.OTHERS + multifidelity.MOST_PENDING
