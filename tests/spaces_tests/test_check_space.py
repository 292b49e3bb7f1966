import dataclasses
from dataclasses import dataclass
from typing import Any

import optuna
import pytest
import torch
from torch import nn

from spaces import Space, SpaceError, check_space, load_space, misfits
from trainables.config import ModelConfig, OptimizerConfig, Task, TrialConfig
from trainables.models.pretrained import PretrainedConfig

TASK = Task(image_size=8, classes=3, train_images=100, max_epochs=2)


@dataclass(frozen=True, kw_only=True)
class LinearConfig(ModelConfig):
    width: int
    outputs: Any = 3

    def build(self, task: Task) -> nn.Module:
        if self.width == 13:
            raise RuntimeError("thirteen")
        return nn.Sequential(nn.Flatten(), nn.Linear(task.channels * task.image_size**2, self.outputs))


def config(width: int = 8, **fields: Any) -> TrialConfig:
    model = LinearConfig(width=width, **fields)
    return TrialConfig(model=model, optimizer=OptimizerConfig(name="sgd", learning_rate=0.1))


def suggest(trial: optuna.Trial, task: Task) -> TrialConfig:
    return config(trial.suggest_int("width", 1, 8))


GOOD = Space(name="mine", module=__name__, suggest=suggest, baselines={"one": {"width": 1}})


def with_suggest(function) -> Space:
    return dataclasses.replace(GOOD, suggest=function, baselines={})


def with_baseline(**params: Any) -> Space:
    return dataclasses.replace(GOOD, baselines={"one": params})


def test_good_space_passes():
    check_space(GOOD, TASK, draws=3, seed=0)
    assert misfits(GOOD, TASK) == {}


@pytest.mark.parametrize("image_size", [8, 32, 224])
def test_named_space_passes_but_for_its_misfits(image_size):
    space = load_space("cnn")
    task = dataclasses.replace(TASK, image_size=image_size, train_images=45_000)
    skipped = misfits(space, task)
    assert set(skipped) == (set(space.baselines) if image_size == 8 else set())
    check_space(space, task, draws=5, seed=0, baselines=space.baselines.keys() - skipped.keys())


def test_checking_leaves_the_random_numbers_and_the_log_level_alone():
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    before = torch.get_rng_state()
    check_space(
        load_space("cnn"), dataclasses.replace(TASK, image_size=32, train_images=45_000), draws=3, seed=0
    )
    assert torch.equal(before, torch.get_rng_state())
    assert optuna.logging.get_verbosity() == optuna.logging.ERROR
    optuna.logging.set_verbosity(optuna.logging.INFO)


def test_exception_is_named_with_the_line_of_the_space():
    def failing(trial, task):
        return {}["width"]

    line = failing.__code__.co_firstlineno + 1
    with pytest.raises(
        SpaceError, match=rf"mine: suggest fails for a random trial: KeyError: 'width' \(.*:{line}\)"
    ):
        check_space(with_suggest(failing), TASK, draws=1, seed=0)


def test_choices_that_change_are_found():
    def changing(trial, task):
        return config(trial.suggest_categorical("width", [8, 9 + trial.number]))

    with pytest.raises(SpaceError, match="does not support dynamic value space"):
        check_space(with_suggest(changing), TASK, draws=2, seed=0)


def test_two_ranges_for_one_name_are_found():
    def twice(trial, task):
        trial.suggest_int("width", 1, 4)
        return config(trial.suggest_int("width", 1, 8))

    with pytest.raises(SpaceError, match="Inconsistent parameter values"):
        check_space(with_suggest(twice), TASK, draws=1, seed=0)


def test_other_return_type_is_refused():
    with pytest.raises(SpaceError, match="must return a TrialConfig, but returns dict for a random trial"):
        check_space(with_suggest(lambda trial, task: {}), TASK, draws=1, seed=0)


def test_network_that_does_not_build_is_refused_with_its_parameters():
    space = with_suggest(lambda trial, task: config(trial.suggest_int("width", 13, 13)))
    with pytest.raises(
        SpaceError, match=r"builds no network: RuntimeError: thirteen .*parameters are {'width': 13}"
    ):
        check_space(space, TASK, draws=1, seed=0)


def test_wrong_output_shape_is_refused():
    with pytest.raises(
        SpaceError, match=r"gives \(2, 4\) for 2 images, where \(2, 3\) is needed for 3 classes"
    ):
        check_space(with_suggest(lambda trial, task: config(outputs=4)), TASK, draws=1, seed=0)


def test_configuration_that_json_changes_is_refused():
    with pytest.raises(SpaceError, match="does not survive JSON"):
        check_space(with_suggest(lambda trial, task: config(outputs={3})), TASK, draws=1, seed=0)
    with pytest.raises(SpaceError, match="is not the same after JSON"):
        check_space(with_suggest(lambda trial, task: config(outputs=[3])), TASK, draws=1, seed=0)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({}, "suggest fails for baseline one: ValueError: The value of the parameter 'width' is not found"),
        ({"width": 9}, "suggest fails for baseline one: UserWarning: The value 9 .* is out of the range"),
        (
            {"width": 1, "depth": 2},
            "baseline one sets what is not asked for with its other values: {'depth': 2}",
        ),
    ],
)
def test_baseline_that_is_no_point_is_refused_and_named_as_misfit(params, message):
    space = with_baseline(**params)
    with pytest.raises(SpaceError, match=message):
        check_space(space, TASK, draws=1, seed=0)
    check_space(space, TASK, draws=1, seed=0, baselines=[])
    assert list(misfits(space, TASK)) == ["one"]


def test_unknown_baseline_lists_the_known():
    with pytest.raises(SpaceError, match="mine has no baseline two, but one"):
        check_space(GOOD, TASK, draws=1, seed=0, baselines=["two"])


def pretrained(**model: Any) -> Any:
    return lambda trial, task: TrialConfig(
        model=PretrainedConfig(architecture="mobilenet_v2", input_size=32, **model),
        optimizer=OptimizerConfig(name="sgd", learning_rate=0.1),
    )


@pytest.mark.parametrize(
    ("model", "architectures", "task", "problem"),
    [
        ({}, (), {"weights": "none"}, r"ARCHITECTURES = \('mobilenet_v2',\)"),
        ({}, ("resnet18",), {}, r"ARCHITECTURES = \('mobilenet_v2',\)"),
        ({}, ("mobilenet_v2",), {"weights": "none"}, "weights imagenet, but at hand are none"),
        ({"weights": "abc"}, ("mobilenet_v2",), {}, "weights abc, but at hand are imagenet"),
        ({}, ("mobilenet_v2", "resnet18"), {"architectures": ("resnet18",)}, "are imagenet for resnet18"),
    ],
)
def test_weights_that_will_not_be_there_are_named(model, architectures, task, problem):
    space = dataclasses.replace(with_suggest(pretrained(**model)), architectures=architectures)
    with pytest.raises(SpaceError, match=problem):
        check_space(space, dataclasses.replace(TASK, **task), draws=1)


@pytest.mark.parametrize("weights", ["none", "imagenet"])
def test_space_of_a_pretrained_network_passes(weights):
    space = dataclasses.replace(
        with_suggest(pretrained(weights=weights)), architectures=("mobilenet_v2",) * (weights == "imagenet")
    )
    check_space(space, TASK, draws=1)
