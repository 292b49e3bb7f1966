from collections.abc import Callable
from dataclasses import asdict, replace
from itertools import pairwise
from typing import Any

import pytest
import torch

from trainables.config import (
    AugmentConfig,
    FineTuneConfig,
    OptimizerConfig,
    Task,
    TrialConfig,
    config_hash,
    from_json,
    to_json,
)
from trainables.features import FeatureCache
from trainables.fine_tuning import stages_in_epoch
from trainables.models.cnn import CnnConfig
from trainables.models.pretrained import PretrainedConfig
from trainables.optimizer import make_optimizer, set_rate
from trainables.training import Training

TASK = Task(image_size=8, classes=3, train_images=60, max_epochs=4)
CLOCK = ("seconds", "validation_seconds", "images_per_second")


def config(**changes: Any) -> TrialConfig:
    model = {"architecture": "mobilenet_v2", "weights": "none", "input_size": 32} | changes.pop("model", {})
    optimizer = {"name": "adamw", "learning_rate": 0.01, "weight_decay": 0.1} | changes.pop("optimizer", {})
    return TrialConfig(
        model=PretrainedConfig(**model),
        optimizer=OptimizerConfig(**optimizer),
        augment=AugmentConfig(**changes.pop("augment", {})),
        fine_tune=FineTuneConfig(**changes.pop("fine_tune", {})),
        batch_size=20,
        **changes,
    )


def measured(training: Training, epochs: int | None = None) -> list[dict[str, Any]]:
    reports = [training.run_epoch() for _ in range(epochs or TASK.max_epochs)]
    return [{name: value for name, value in asdict(r).items() if name not in CLOCK} for r in reports]


def changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    return {name for name in before if not torch.equal(before[name], after[name])}


def copied(training: Training) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in training.model.state_dict().items()}


# ---- configuration


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("backbone_rate", 0.0),
        ("backbone_rate", 1.5),
        ("layer_decay", 0.0),
        ("layer_decay", float("nan")),
        ("unfreeze_over", -0.1),
        ("unfreeze_over", 1.1),
    ],
)
def test_impossible_value_is_refused(field, value):
    with pytest.raises(ValueError, match=f"{field} must be .* but is {value}"):
        FineTuneConfig(**{field: value})


def test_configuration_survives_json():
    tuned = config(fine_tune={"backbone_rate": 0.1, "layer_decay": 0.5, "unfreeze_over": 0.25})
    assert to_json(tuned)["fine_tune"] == {"backbone_rate": 0.1, "layer_decay": 0.5, "unfreeze_over": 0.25}
    assert from_json(to_json(tuned)) == tuned
    assert config_hash(tuned) != config_hash(replace(tuned, fine_tune=FineTuneConfig()))


def test_document_from_before_there_was_fine_tuning_is_read(make_config):
    document = to_json(make_config())
    assert "fine_tune" not in document
    assert from_json(document).fine_tune == FineTuneConfig()


# ---- learning rates


def test_each_stage_has_a_rate_of_its_own():
    tuned = config(fine_tune={"backbone_rate": 0.5, "layer_decay": 0.1})
    network = tuned.model.build(TASK)
    optimizer = make_optimizer(tuned.optimizer, network, tuned.fine_tune)
    set_rate(optimizer, 8.0)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert {rates[id(p)] for p in network.head.parameters()} == {8.0}
    for distance, stage in enumerate(reversed(network.stages())):
        found = {rates[id(p)] for module in stage for p in module.parameters()}
        assert list(found) == pytest.approx([8.0 * 0.5 * 0.1**distance])
    assert len(rates) == len(list(network.parameters()))
    decayed = {id(p) for g in optimizer.param_groups if g["weight_decay"] for p in g["params"]}
    assert decayed == {id(p) for p in network.parameters() if p.ndim > 1}


def test_training_from_scratch_has_the_groups_it_always_had():
    optimizer = make_optimizer(
        OptimizerConfig(name="sgd", learning_rate=0.1, weight_decay=0.3),
        CnnConfig(widths=((4,),)).build(TASK),
    )
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.3, 0.0]
    set_rate(optimizer, 0.7)
    assert [group["lr"] for group in optimizer.param_groups] == [0.7, 0.7]


def test_frozen_stages_are_not_in_the_optimizer():
    tuned = config(model={"unfrozen": "last"}, fine_tune={"backbone_rate": 0.5})
    network = tuned.model.build(TASK)
    optimizer = make_optimizer(tuned.optimizer, network, tuned.fine_tune)
    found = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert found == {id(p) for p in network.parameters() if p.requires_grad}


@pytest.mark.parametrize("fine_tune", [{"backbone_rate": 0.5}, {"unfreeze_over": 0.5}])
def test_network_without_stages_is_refused(fine_tune, make_config, task, data):
    tuned = replace(make_config(), fine_tune=FineTuneConfig(**fine_tune))
    with pytest.raises(ValueError, match="needs a network that has stages"):
        Training(tuned, task, data, seed=0)


# ---- what is frozen


@pytest.mark.parametrize(("unfrozen", "first"), [("head", 19), ("last", 14), ("last_two", 7), ("all", 0)])
def test_an_epoch_changes_what_is_unfrozen_and_nothing_else(unfrozen, first, data):
    training = Training(config(model={"unfrozen": unfrozen}, augment={"flip": True}), TASK, data, seed=0)
    before = copied(training)
    training.run_epoch()
    expected = {
        name
        for name in before
        if name.startswith("head.") or int(name.removeprefix("backbone.features.").split(".")[0]) >= first
    }
    assert changed(before, copied(training)) == expected


@pytest.mark.parametrize(
    ("trained", "over", "epochs", "expected"),
    [
        (5, 0.0, 4, [5, 5, 5, 5]),
        (5, 0.5, 10, [0, 1, 2, 3, 4, 5, 5, 5, 5, 5]),
        (2, 0.5, 10, [0, 0, 0, 1, 1, 2, 2, 2, 2, 2]),
        (5, 1.0, 4, [0, 1, 2, 3]),
        (0, 0.5, 3, [0, 0, 0]),
        (5, 0.5, 1, [0]),
        (5, 0.3, 9, [0, 1, 3, 5, 5, 5, 5, 5, 5]),
    ],
)
def test_stages_take_part_one_after_the_other(trained, over, epochs, expected):
    tuned = FineTuneConfig(unfreeze_over=over)
    assert [stages_in_epoch(trained, tuned, epoch, epochs) for epoch in range(epochs)] == expected


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_stages_that_do_not_take_part_yet_stay_as_they_are(data, optimizer):
    tuned = config(
        optimizer={"name": optimizer, "momentum": 0.9},
        fine_tune={"unfreeze_over": 0.5},
        augment={"flip": True},
    )
    training = Training(tuned, TASK, data, seed=0)
    states = [copied(training)]
    for _ in range(3):
        training.run_epoch()
        states.append(copied(training))
    first = [changed(before, after) for before, after in pairwise(states)]
    assert {name.split(".")[0] for name in first[0]} == {"head"}
    assert "backbone.features.18.0.weight" in first[1]
    assert "backbone.features.0.0.weight" not in first[1]
    assert "backbone.features.0.0.weight" in first[2]


@pytest.mark.parametrize(
    ("name", "averaging"),
    [("sgd", "lookahead"), pytest.param("adam", "none", marks=pytest.mark.slow), ("adamw", "ema")],
)
def test_interrupted_fine_tuning_goes_on_exactly(name, averaging, data, through_a_file):
    tuned = config(
        optimizer={"name": name, "schedule": "cosine", "warmup": 0.2},
        fine_tune={"backbone_rate": 0.3, "layer_decay": 0.7, "unfreeze_over": 0.6},
        augment={"flip": True, "mixup": 0.2},
        model={"dropout": 0.3, "head_width": 8},
        averaging=averaging,
    )
    whole = Training(tuned, TASK, data, seed=5)
    wanted = measured(whole)
    reports: list[dict[str, Any]] = []
    state: dict[str, Any] | None = None
    for _ in range(TASK.max_epochs):
        part = Training(tuned, TASK, data, seed=5)
        if state is not None:
            part.load(state)
        reports += measured(part, 1)
        state = through_a_file(part.state())
    assert reports == wanted
    assert changed(copied(whole), copied(part)) == set()


# ---- features of a frozen backbone


HEAD_ONLY: dict[str, Any] = {"model": {"unfrozen": "head", "dropout": 0.2}, "optimizer": {"name": "sgd"}}


def counted(monkeypatch) -> list[int]:
    """Sizes of the batches that go through a backbone from here on."""
    from trainables.models.pretrained_network import PretrainedNetwork

    seen: list[int] = []
    features: Callable[..., torch.Tensor] = PretrainedNetwork.features

    def counting(self, images):
        seen.append(len(images))
        return features(self, images)

    monkeypatch.setattr(PretrainedNetwork, "features", counting)
    return seen


def test_features_are_computed_once_for_all_epochs(data, monkeypatch):
    seen = counted(monkeypatch)
    training = Training(config(**HEAD_ONLY), TASK, data, seed=0)
    assert sum(seen) == 60 + 30
    list(training.epochs())
    assert sum(seen) == 60 + 30


def test_training_on_features_equals_training_on_images(data):
    on_features = Training(config(**HEAD_ONLY), TASK, data, seed=0)
    on_images = Training(config(**HEAD_ONLY), TASK, data, seed=0, features=FeatureCache(most_bytes=0))
    assert on_features.on_features
    assert not on_images.on_features
    for one, other in zip(measured(on_features), measured(on_images), strict=True):
        assert one == pytest.approx(other, rel=1e-4)
    for name, tensor in copied(on_features).items():
        torch.testing.assert_close(tensor, on_images.model.state_dict()[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("augment", [{"flip": True}, {"crop": 1}, {"cutout": 2}, {"mixup": 0.2}])
def test_augmented_images_have_no_features_to_keep(augment, data):
    training = Training(config(augment=augment, **HEAD_ONLY), TASK, data, seed=0)
    assert not training.on_features


def test_a_backbone_that_is_trained_has_no_features_to_keep(data):
    assert not Training(config(model={"unfrozen": "last"}), TASK, data, seed=0).on_features


def test_trials_share_features_where_they_are_the_same(data, monkeypatch):
    seen = counted(monkeypatch)
    cache = FeatureCache()

    def passes(seed: int = 0, precision: Any = "fp32", **model: Any) -> int:
        seen.clear()
        tuned = config(model={"unfrozen": "head", **model})
        Training(tuned, TASK, data, seed=seed, precision=precision, features=cache)
        return sum(seen)

    assert passes() == 90
    assert passes(dropout=0.5, head_width=4, freeze_norms=True) == 0
    assert passes(input_size=33) == 90
    assert passes(stem="small") == 90
    assert passes(precision="bf16") == 90
    assert passes(seed=1) == 90  # without weights, other random values
    assert passes() == 0


def test_least_recently_used_features_go_first(data):
    one = 90 * 1280 * 4
    cache = FeatureCache(most_bytes=2 * one)

    def made(size: int) -> torch.Tensor:
        tuned = config(model={"unfrozen": "head", "input_size": size})
        return Training(tuned, TASK, data, seed=0, features=cache).inputs.train.images

    first, second = made(32), made(33)
    assert made(32) is first
    made(34)
    assert made(32) is first
    assert made(33) is not second


def test_precision_of_a_checkpoint_decides_the_features(data):
    tuned = config(**HEAD_ONLY)
    low = Training(tuned, TASK, data, seed=0, precision="bf16")
    again = Training(tuned, TASK, data, seed=0)
    assert not torch.equal(again.inputs.train.images, low.inputs.train.images)
    again.load(low.state())
    assert torch.equal(again.inputs.train.images, low.inputs.train.images)
