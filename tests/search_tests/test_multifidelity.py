"""The sampler that knows fidelity: its model against slow oracles, and what it proposes."""

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
from scipy.integrate import quad
from scipy.optimize import check_grad
from scipy.stats import norm

from search import gaussian_process as gp
from search import multifidelity
from search.conditions import Conditions, asking_order
from search.encoding import Parameter, UnionSpace, widened
from search.multifidelity import MultifidelitySampler, standardized
from search.sampler import make_sampler, samplers

optuna.logging.set_verbosity(optuna.logging.WARNING)

# --- the model ---


def data(count: int = 25, dimensions: int = 3) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(0)
    points = rng.random((count, dimensions))
    values = standardized(np.sin(6 * points[:, 0]) + points[:, 1] ** 2 + 0.1 * rng.normal(size=count))
    return points, values, np.arange(dimensions)


def test_posterior_is_that_of_scikit_learn() -> None:
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import Matern

    points, values, groups = data()
    lengths, new = np.array([0.3, 0.8, 2.0]), np.random.default_rng(1).random((40, 3))
    oracle = GaussianProcessRegressor(Matern(lengths, nu=2.5), alpha=0.05, optimizer=None)
    mean, deviation = oracle.fit(points, values).predict(new, return_std=True)
    ours = gp.GaussianProcess(points, values, groups, gp.Hyperparameters(lengths, 0.05))
    np.testing.assert_allclose(ours.predict(new)[0], mean, atol=1e-8)
    np.testing.assert_allclose(ours.predict(new)[1], deviation, atol=1e-6)
    np.testing.assert_allclose(ours.mean(new), mean, atol=1e-8)


def test_columns_of_one_parameter_share_its_lengthscale() -> None:
    points, values, _ = data()
    apart = gp.GaussianProcess(
        points, values, np.array([0, 1, 2]), gp.Hyperparameters(np.array([0.5, 0.5, 2.0]), 0.1)
    )
    shared = gp.GaussianProcess(
        points, values, np.array([0, 0, 1]), gp.Hyperparameters(np.array([0.5, 2.0]), 0.1)
    )
    np.testing.assert_array_equal(apart.mean(points), shared.mean(points))


def slow_posterior(logs: Any, points: Any, values: Any) -> float:
    """Log posterior of the hyperparameters, by scikit-learn and scipy."""
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import Matern, WhiteKernel

    kernel = Matern(np.exp(logs[:-1]), nu=2.5) + WhiteKernel(math.exp(logs[-1]))
    model = GaussianProcessRegressor(kernel, alpha=0.0, optimizer=None).fit(points, values)
    median = math.log(gp.LENGTHSCALE * math.sqrt(points.shape[1]))
    prior = norm.logpdf(logs[:-1], median, gp.LENGTHSCALE_SPREAD).sum()
    noise = norm.logpdf(logs[-1], math.log(gp.NOISE), gp.NOISE_SPREAD)
    return float(model.log_marginal_likelihood_value_ + prior + noise)


def test_loss_is_minus_the_log_posterior_and_its_gradient_is_right() -> None:
    points, values, groups = data()
    loss = gp.negative_log_posterior(points, values, groups)
    starts = np.random.default_rng(2).normal(-1.0, 0.7, size=(5, 4))
    slow = [slow_posterior(logs, points, values) for logs in starts]
    fast = [-loss(logs)[0] for logs in starts]
    np.testing.assert_allclose(np.diff(fast), np.diff(slow), rtol=1e-6)  # equal up to a constant
    for logs in starts:
        error = check_grad(lambda x: loss(x)[0], lambda x: loss(x)[1], logs)
        assert error < 1e-4 * (1 + np.abs(loss(logs)[1]).max())


def test_no_other_hyperparameters_are_much_more_probable_than_those_found() -> None:
    points, values, groups = data()
    found = gp.fit(points, values, groups)
    at = np.append(np.log(found.lengthscales), math.log(found.noise))
    reached = slow_posterior(at, points, values)
    rng = np.random.default_rng(3)
    others = [slow_posterior(at + rng.normal(scale=0.5, size=4), points, values) for _ in range(100)]
    assert max(others) < reached + 0.01


def test_a_parameter_that_does_nothing_gets_a_long_lengthscale() -> None:
    points, values, groups = data(60)
    lengths = gp.fit(points, values, groups).lengthscales
    assert lengths[2] > 2 * lengths[0]


@pytest.mark.parametrize(("mean", "deviation", "best"), [(0.0, 1.0, 0.5), (2.0, 0.3, 1.0), (-1.0, 0.2, 0.0)])
def test_expected_improvement_is_the_integral_that_defines_it(
    mean: float, deviation: float, best: float
) -> None:
    slow, _ = quad(lambda f: (f - best) * norm.pdf(f, mean, deviation), best, mean + 12 * deviation)
    fast = gp.expected_improvement(np.array([mean]), np.array([deviation]), best)
    assert fast[0] == pytest.approx(slow, abs=1e-7)


@pytest.mark.parametrize(
    "values", [[1.0, 2.0, 4.0], [5.0, 5.0, 5.0], [0.0, 0.0], [3.0], [1e300, -1e300, 0.0], [1e-300, 2e-300]]
)
def test_standardized_values_are_finite_with_mean_0(values: list[float]) -> None:
    result = standardized(np.array(values))
    assert np.isfinite(result).all()
    assert abs(result.mean()) < 1e-9
    assert result.std() == pytest.approx(0.0 if len(set(values)) == 1 else 1.0)


# --- configurations as numbers ---

KINDS: list[tuple[BaseDistribution, list[Any]]] = [
    (FloatDistribution(-2.0, 3.0), [-2.0, 0.0, 3.0]),
    (FloatDistribution(1e-5, 1.0, log=True), [1e-5, 1e-2, 1.0]),
    (FloatDistribution(0.0, 0.3, step=0.1), [0.0, 0.1, 0.2, 0.3]),
    (FloatDistribution(-1e308, 1e308), [-1e308, 0.0, 1e308]),
    (IntDistribution(3, 8), [3, 4, 5, 6, 7, 8]),
    (IntDistribution(16, 96, step=8), [16, 56, 96]),
    (IntDistribution(1, 1000, log=True), [1, 2, 30, 1000]),
    (IntDistribution(1, 2, log=True), [1, 2]),
    (CategoricalDistribution(["a", "b", "c"]), ["a", "b", "c"]),
    (CategoricalDistribution([None, True, 2.5]), [None, True, 2.5]),
]


@pytest.mark.parametrize(("distribution", "values"), KINDS)
def test_every_value_survives_its_place_on_the_unit_range(
    distribution: BaseDistribution, values: list[Any]
) -> None:
    parameter = Parameter(distribution)
    for value in values:
        unit = parameter.to_unit(value)
        assert 0 <= unit <= 1
        back = parameter.to_value(unit)
        assert back == value or back == pytest.approx(value, rel=1e-9)
        assert type(back) is type(value)


@pytest.mark.parametrize("distribution", [distribution for distribution, _ in KINDS])
def test_every_place_is_a_value_that_optuna_accepts_and_snapping_finds_it(
    distribution: BaseDistribution,
) -> None:
    parameter, units = Parameter(distribution), np.linspace(0, 1, 101)
    values = [parameter.to_value(float(unit)) for unit in units]
    assert all(distribution._contains(distribution.to_internal_repr(value)) for value in values)
    snapped = parameter.snap(units)
    places = [parameter.to_unit(value) for value in values]
    np.testing.assert_allclose(snapped, places, atol=1e-9)


def test_uniform_places_draw_every_integer_equally_often() -> None:
    four = (IntDistribution(0, 3), IntDistribution(0, 9, step=3), FloatDistribution(0, 3, step=1))
    for distribution in four:
        parameter = Parameter(distribution)
        drawn = [parameter.to_value(unit) for unit in (np.arange(400) + 0.5) / 400]
        assert sorted(drawn.count(value) for value in set(drawn)) == [100] * 4


def test_categories_are_all_at_distance_1_and_inactive_parameters_apart_from_all_values() -> None:
    space = UnionSpace(
        {"kind": CategoricalDistribution(["a", "b", "c"]), "rate": FloatDistribution(0, 1)},
        frozenset({"rate"}),
    )
    rows = [space.row({"kind": kind, "rate": 0.5}) for kind in "abc"] + [space.row({"kind": "a"})]
    columns = space.encode(np.array([units for units, _ in rows]), np.array([active for _, active in rows]))
    apart = ((columns[:, None] - columns[None]) ** 2).sum(axis=2)
    np.testing.assert_allclose(apart[:3, :3], 1 - np.eye(3), atol=1e-12)
    assert apart[0, 3] > 0.1  # active in the middle of its range is not inactive
    assert space.groups.tolist() == [0, 0, 0, 1, 1]


def test_the_value_drawn_for_an_inactive_parameter_changes_nothing() -> None:
    space = UnionSpace({"rate": FloatDistribution(0, 1)}, frozenset({"rate"}))
    off = np.array([[False]])
    np.testing.assert_array_equal(space.encode(np.array([[0.1]]), off), space.encode(np.array([[0.9]]), off))


def test_a_range_that_changes_is_covered_whole() -> None:
    assert widened(IntDistribution(1, 5), IntDistribution(3, 9)) == IntDistribution(1, 9)
    assert widened(IntDistribution(0, 4, step=2), IntDistribution(1, 5, step=2)) == IntDistribution(0, 5)
    assert widened(FloatDistribution(0, 1), FloatDistribution(-1, 0.5)) == FloatDistribution(-1, 1)


def test_names_come_in_the_order_they_are_asked_for_also_when_some_come_late() -> None:
    assert asking_order([["a", "c"], ["a", "b", "c"], ["a", "c", "d"]]) == ["a", "b", "c", "d"]


def test_conditions_of_a_tree_are_learnt() -> None:
    rng = np.random.default_rng(0)
    units = rng.random((200, 4))
    active = np.ones((200, 4), dtype=bool)
    active[:, 1] = units[:, 0] > 0.5
    active[:, 2] = active[:, 1] & (units[:, 1] < 0.5)
    learnt = Conditions(units[:150], active[:150])
    assert (learnt.active(units[150:]) == active[150:]).mean() > 0.97


def test_there_is_evidence_of_a_signal_and_none_in_noise() -> None:
    rng = np.random.default_rng(0)
    signal, noise = [], []
    for _ in range(10):
        points = rng.random((15, 4))
        noise.append(gp.fit(points, standardized(rng.normal(size=15)), np.arange(4)).evidence)
        signal.append(gp.fit(points, standardized(points[:, 0] - points[:, 1] ** 2), np.arange(4)).evidence)
    assert np.median(noise) < 0 < min(signal)


def test_a_few_terrible_values_do_not_hide_which_of_the_good_are_better() -> None:
    values = np.append(np.linspace(0, 1, 20), [-1e6, -1e9])
    assert np.ptp(standardized(values)[:20]) > 1
    np.testing.assert_allclose(standardized(values), standardized(1e3 * values - 5), atol=1e-6)


# --- what it proposes ---


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


# --- names ---


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
