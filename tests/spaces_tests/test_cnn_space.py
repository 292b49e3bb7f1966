import dataclasses
import json
import subprocess
import sys

import optuna
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spaces.cnn import BASELINES, suggest
from trainables.config import Task, from_json, to_json
from trainables.models.cnn import CnnConfig
from trainables.models.size import build_on_meta, count_parameters, output_shape
from trainables.models.whitening import PatchWhitening

TASK = Task(image_size=32, classes=10, train_images=45_000, max_epochs=10)
TASKS = st.builds(
    Task,
    image_size=st.integers(5, 96) | st.sampled_from([128, 224]),
    channels=st.sampled_from([1, 3]),
    classes=st.integers(2, 1000),
    train_images=st.integers(1, 100_000),
    max_epochs=st.just(10),
)


pytestmark = [
    pytest.mark.filterwarnings("error"),
    pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning"),
]


def study(seed: int = 0) -> optuna.Study:
    return optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))


@given(task=TASKS, seed=st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_every_draw_builds_and_survives_json(task, seed):
    draws = study(seed)
    for _ in range(2):
        config = suggest(draws.ask(), task)
        assert output_shape(config.model, task) == (2, task.classes)
        assert from_json(json.loads(json.dumps(to_json(config)))) == config


@pytest.mark.parametrize("seed", range(12))
def test_draw_has_a_finite_gradient_for_every_parameter(seed):
    torch.manual_seed(seed)
    task = dataclasses.replace(TASK, image_size=(8, 16, 32)[seed % 3], channels=(1, 3)[seed % 2])
    network = suggest(study(seed).ask(), task).model.build(task)
    images = torch.randn(4, task.channels, task.image_size, task.image_size)
    for module in network.modules():
        if isinstance(module, PatchWhitening):
            module.initialize_from(images)
    loss = torch.nn.functional.cross_entropy(network(images), torch.tensor([0, 1, 2, 3]))
    loss.backward()
    assert loss.isfinite()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("seed", range(5))
def test_parameter_count_is_that_of_the_real_network(seed):
    model = suggest(study(seed).ask(), TASK).model
    assert count_parameters(model, TASK) == sum(p.numel() for p in model.build(TASK).parameters())


@pytest.mark.parametrize("image_size", [8, 32])
def test_one_study_holds_random_tpe_and_baseline_trials_without_a_warning(image_size):
    task = dataclasses.replace(TASK, image_size=image_size)
    tpe = optuna.samplers.TPESampler(seed=0, group=True, multivariate=True, n_startup_trials=10)
    search = study()
    for number in range(100):
        search.sampler = tpe if number >= 70 else search.sampler
        trial = search.ask()
        config = suggest(trial, task)
        assert trial.params == {name: trial.params[name] for name in trial.distributions}
        search.tell(trial, abs(config.optimizer.learning_rate - 0.01))
    for params in BASELINES.values() if image_size == 32 else ():
        search.enqueue_trial(params)
        trial = search.ask()
        suggest(trial, task)
        assert trial.params == params
        search.tell(trial, 1.0)


def test_ranges_do_not_move_within_a_study():
    draws = study()
    seen: dict[str, optuna.distributions.BaseDistribution] = {}
    for _ in range(300):
        trial = draws.ask()
        suggest(trial, TASK)
        for name, distribution in trial.distributions.items():
            assert seen.setdefault(name, distribution) == distribution, name


def test_every_choice_is_drawn():
    draws = study()
    values: dict[str, set[object]] = {}
    for _ in range(300):
        trial = draws.ask()
        suggest(trial, TASK)
        for name, value in trial.params.items():
            values.setdefault(name, set()).add(value)
        choices = {k: d for k, d in trial.distributions.items() if hasattr(d, "choices")}
    assert {"kernel", "widen", "padding", "residual", "unnormalized.sgd.learning_rate"} <= values.keys()
    assert all(values[name] == set(distribution.choices) for name, distribution in choices.items())


def test_parameters_decide_the_configuration():
    for seed in range(20):
        trial = study(seed).ask()
        config = suggest(trial, TASK)
        assert suggest(optuna.trial.FixedTrial(trial.params), TASK) == config


def test_median_draw_is_neither_tiny_nor_huge():
    draws = study()
    counts = sorted(count_parameters(suggest(draws.ask(), TASK).model, TASK) for _ in range(100))
    usual = [count for count in counts if 50_000 <= count <= 5_000_000]
    assert len(usual) >= 80
    assert counts[-1] < 20_000_000


@pytest.mark.slow
def test_slowest_draw_costs_less_than_fifty_times_the_plain_network():
    plain = suggest(optuna.trial.FixedTrial(BASELINES["plain"]), TASK).model
    draws = study()
    assert max(multiplications(suggest(draws.ask(), TASK).model) for _ in range(50)) < 50 * multiplications(
        plain
    )


def multiplications(model: CnnConfig) -> int:
    from torch.utils.flop_counter import FlopCounterMode

    network = build_on_meta(model, TASK).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.empty(1, 3, 32, 32, device="meta"))
    return counter.get_total_flops() // 2


@pytest.mark.parametrize(("image_size", "maps"), [(64, 64), (65, 32), (224, 56), (256, 64)])
def test_large_images_are_shrunk_by_the_stem(image_size, maps):
    config = suggest(study().ask(), dataclasses.replace(TASK, image_size=image_size))
    assert image_size // config.model.input_stride == maps


def test_batch_is_no_larger_than_the_data():
    task = dataclasses.replace(TASK, train_images=130)
    assert {suggest(study(seed).ask(), task).batch_size for seed in range(20)} == {64, 128}


def test_image_too_small_for_the_space_is_refused_with_its_size():
    with pytest.raises(ValueError, match="at least 5 pixels, but these have 4"):
        suggest(study().ask(), dataclasses.replace(TASK, image_size=4))


def test_baselines_are_read_without_torch():
    code = "import sys, spaces; spaces.load_space('cnn').baselines; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    code = "import sys, spaces; assert 'optuna' not in sys.modules and 'spaces.cnn' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
