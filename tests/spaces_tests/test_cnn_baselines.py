"""Each baseline, layer by layer, against what was published, written down here independently of the space."""

import warnings
from collections import Counter
from itertools import pairwise

import optuna
import pytest
from torch import nn

from spaces.cnn import BASELINES, suggest
from trainables.config import AugmentConfig, OptimizerConfig, Task, TrialConfig
from trainables.models.size import build_on_meta, count_macs, count_parameters
from trainables.models.whitening import PatchWhitening

TASK = Task(image_size=32, classes=10, train_images=45_000, max_epochs=20)


def config(name: str, task: Task = TASK, **changes) -> TrialConfig:
    params = BASELINES[name] | changes
    trial = optuna.trial.FixedTrial(params)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trial_config = suggest(trial, task)
    assert trial.params == params
    return trial_config


def layers(name: str, **changes) -> list[str]:
    modules = build_on_meta(config(name, **changes).model, TASK).modules()
    return [short(module) for module in modules if not list(module.children())]


def short(module: nn.Module) -> str:
    match module:
        case nn.Conv2d():
            assert module.stride == (1, 1)
            return (
                f"conv {module.out_channels} {module.kernel_size[0]}x{module.kernel_size[1]} {module.padding}"
            )
        case nn.Linear():
            return f"dense {module.out_features}"
        case nn.MaxPool2d():
            assert module.kernel_size == module.stride
            return f"max {module.kernel_size}"
        case nn.Dropout():
            return f"dropout {module.p}"
        case PatchWhitening():
            return f"whitening {len(module.weight)} {module.patch}x{module.patch}"
        case _:
            return type(module).__name__.lower()


PLAIN = [
    *["conv 32 3x3 (0, 0)", "relu", "max 2"],
    *["conv 64 3x3 (0, 0)", "relu", "conv 128 3x3 (0, 0)", "relu", "max 2"],
    *["flatten", "dense 128", "relu", "dropout 0.25", "dense 10"],
]


def with_norm(layers: list[str]) -> list[str]:
    return [part for layer in layers for part in ([layer, "batchnorm2d"] if "conv" in layer else [layer])]


def test_plain():
    assert layers("plain") == PLAIN
    assert config("plain").optimizer == OptimizerConfig(name="adam", learning_rate=1e-3)
    assert config("plain").augment == AugmentConfig()


def test_plain_bn():
    assert layers("plain_bn") == with_norm(PLAIN)


def test_plain_dropout():
    expected = with_norm(PLAIN)
    for stage_end in (expected.index("flatten"), expected.index("max 2") + 1):
        expected.insert(stage_end, "dropout 0.2")
    assert layers("plain_dropout") == expected


def test_deep():
    def stage(width: int) -> list[str]:
        convolution = [f"conv {width} 3x3 (1, 1)", "batchnorm2d", "relu"]
        return [*convolution, *convolution, "max 2", "dropout 0.3"]

    head = ["flatten", "dense 128", "relu", "dropout 0.25", "dense 10"]
    assert layers("deep") == [*stage(32), *stage(64), *stage(128), *head]
    assert config("deep").augment == AugmentConfig(flip=True, crop=3)


def test_speedrun():
    def stage(width: int) -> list[str]:
        convolution = f"conv {width} 3x3 (1, 1)"
        return [convolution, "max 2", "batchnorm2d", "gelu", convolution, "batchnorm2d", "gelu"]

    expected = [
        "whitening 24 2x2",
        "gelu",
        *stage(64),
        *stage(128),
        *stage(256),
        "max 3",
        "flatten",
        "dense 10",
    ]
    assert layers("speedrun") == [*expected, "scale"]
    trial = config("speedrun")
    assert (trial.optimizer.name, trial.optimizer.schedule) == ("sgd", "linear")
    assert (trial.label_smoothing, trial.averaging) == (0.2, "lookahead")
    assert trial.augment == AugmentConfig(flip=True, crop=2)


def dense(inputs: int, outputs: int) -> int:
    return inputs * outputs + outputs


def convolutions(*channels: int) -> int:
    return sum(9 * before * after for before, after in pairwise(channels))


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("plain", convolutions(3, 32, 64, 128) + 32 + 64 + 128 + dense(5 * 5 * 128, 128) + dense(128, 10)),
        ("plain_bn", convolutions(3, 32, 64, 128) + 2 * (32 + 64 + 128) + dense(3200, 128) + dense(128, 10)),
        (
            "plain_dropout",
            convolutions(3, 32, 64, 128) + 2 * (32 + 64 + 128) + dense(3200, 128) + dense(128, 10),
        ),
        (
            "deep",
            convolutions(3, 32, 32, 64, 64, 128, 128)
            + 4 * (32 + 64 + 128)
            + dense(4 * 4 * 128, 128)
            + dense(128, 10),
        ),
        (
            "speedrun",
            24 + convolutions(24, 64, 64, 128, 128, 256, 256) + 4 * (64 + 128 + 256) + dense(256, 10),
        ),
    ],
)
def test_parameter_count(name, count):
    assert count_parameters(config(name).model, TASK) == count


@pytest.mark.parametrize(
    ("name", "changes", "gone", "new"),
    [
        ("plain", {"dropout.blocks": 0.3}, [], ["dropout 0.3"] * 2),
        ("plain", {"dropout.head": 0.5}, ["dropout 0.25"], ["dropout 0.5"]),
        ("plain", {"head.dense": 256}, ["dense 128"], ["dense 256"]),
        ("plain", {"activation": "silu"}, ["relu"] * 4, ["silu"] * 4),
        ("plain", {"norm": "batch"}, [], ["batchnorm2d"] * 3),
        ("plain", {"downsample": "avg"}, ["max 2"] * 2, ["avgpool2d"] * 2),
        ("plain", {"widen": "stage"}, ["conv 128 3x3 (0, 0)"], ["conv 64 3x3 (0, 0)"]),
        ("plain", {"whitening": True}, [], ["whitening 24 2x2", "relu"]),
        ("deep", {"convs.first": 1}, ["conv 32 3x3 (1, 1)", "batchnorm2d", "relu"], []),
        (
            "deep",
            {"convs.rest": 3},
            [],
            ["conv 64 3x3 (1, 1)", "conv 128 3x3 (1, 1)", *["batchnorm2d", "relu"] * 2],
        ),
        (
            "speedrun",
            {"width": 48},
            [f"conv {width} 3x3 (1, 1)" for width in (64, 64, 128, 128, 256, 256)],
            [f"conv {width} 3x3 (1, 1)" for width in (48, 48, 96, 96, 192, 192)],
        ),
        ("speedrun", {"residual": True}, [], []),
        ("speedrun", {"head.scale": 1.0}, ["scale"], []),
        ("speedrun", {"head.pool": "avg"}, ["max 3"], ["avgpool2d"]),
    ],
)
def test_one_changed_parameter_changes_its_layers_only(name, changes, gone, new):
    before, after = Counter(layers(name)), Counter(layers(name, **changes))
    assert before - after == Counter(gone)
    assert after - before == Counter(new)


@pytest.mark.parametrize(
    ("changes", "field", "value"),
    [
        ({"batch_size": 256}, "batch_size", 256),
        ({"label_smoothing": 0.1}, "label_smoothing", 0.1),
        ({"averaging": "ema"}, "averaging", "ema"),
        ({"flip": True, "mirror": False}, "augment", AugmentConfig(flip=True)),
        ({"crop": 4}, "augment", AugmentConfig(crop=4)),
        ({"cutout": 16}, "augment", AugmentConfig(cutout=16)),
        ({"mixup": 0.2}, "augment", AugmentConfig(mixup=0.2)),
        ({"adam.learning_rate": 3e-3}, "optimizer", OptimizerConfig(name="adam", learning_rate=3e-3)),
    ],
)
def test_one_changed_parameter_changes_one_field(changes, field, value):
    before, after = config("plain"), config("plain", **changes)
    assert getattr(after, field) == value
    others = {"model", "optimizer", "augment", "batch_size", "label_smoothing", "averaging"} - {field}
    assert all(getattr(before, other) == getattr(after, other) for other in others)


@pytest.mark.parametrize("image_size", [28, 32, 48, 64, 96, 224])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", BASELINES)
def test_baseline_is_a_point_at_other_sizes(name, image_size, channels):
    task = Task(image_size=image_size, channels=channels, classes=7, train_images=1000, max_epochs=3)
    config(name, task)


def test_multiply_adds_of_the_plain_network_are_those_counted_by_hand():
    convolutions = 30 * 30 * 32 * 27 + 13 * 13 * 64 * 32 * 9 + 11 * 11 * 128 * 64 * 9
    dense = 5 * 5 * 128 * 128 + 128 * 10
    assert count_macs(config("plain").model, TASK) == convolutions + dense


def test_multiply_adds_are_those_of_training_whatever_scoring_takes():
    scored_twice = config("speedrun").model
    assert scored_twice.mirror
    once = config("speedrun", mirror=False).model
    assert count_macs(scored_twice, TASK) == count_macs(once, TASK) > 0
