import copy
import dataclasses
import json
import math
import pickle
import re
from typing import Any

import pytest

from trainables.config import (
    AugmentConfig,
    ModelConfig,
    OptimizerConfig,
    Task,
    TrialConfig,
    config_hash,
    from_json,
    to_json,
)
from trainables.models.cnn import CnnConfig

NAN, INF = math.nan, math.inf
TASK = {"image_size": 32, "channels": 3, "classes": 10, "train_images": 100, "max_epochs": 9}
OPTIMIZER = {"name": "sgd", "learning_rate": 0.1}


def assert_refused(kind: type, good: dict[str, Any], field: str, value: Any) -> None:
    kind(**good)
    with pytest.raises(ValueError, match=re.escape(str(value))) as caught:
        kind(**good | {field: value})
    assert field in str(caught.value) or field == "name"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("image_size", 0),
        ("channels", 0),
        ("classes", 1),
        ("train_images", 0),
        ("max_epochs", 0),
        ("classes", -5),
    ],
)
def test_impossible_task_is_refused(field, value):
    assert_refused(Task, TASK, field, value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "lion"),
        ("learning_rate", 0.0),
        ("learning_rate", -0.5),
        ("learning_rate", NAN),
        ("learning_rate", INF),
        ("weight_decay", -0.5),
        ("weight_decay", NAN),
        ("weight_decay", INF),
        ("momentum", -0.5),
        ("momentum", 1.0),
        ("momentum", NAN),
        ("schedule", "step"),
        ("warmup", -0.5),
        ("warmup", 1.0),
        ("warmup", NAN),
    ],
)
def test_impossible_optimizer_is_refused(field, value):
    assert_refused(OptimizerConfig, OPTIMIZER, field, value)


@pytest.mark.parametrize(
    ("field", "value"),
    [("crop", -1), ("cutout", -1), ("mixup", -0.5), ("mixup", NAN), ("mixup", INF)],
)
def test_impossible_augmentation_is_refused(field, value):
    assert_refused(AugmentConfig, {}, field, value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("batch_size", 0),
        ("label_smoothing", -0.5),
        ("label_smoothing", 1.0),
        ("label_smoothing", NAN),
        ("averaging", "swa"),
    ],
)
def test_impossible_trial_is_refused(field, value):
    good = {"model": CnnConfig(widths=((8,),)), "optimizer": OptimizerConfig(**OPTIMIZER)}
    assert_refused(TrialConfig, good, field, value)


def test_model_must_be_a_model_config():
    with pytest.raises(ValueError, match="ModelConfig, but is dict"):
        TrialConfig(model={"widths": [[8]]}, optimizer=OptimizerConfig(**OPTIMIZER))


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (Task, {"image_size": 1, "channels": 1, "classes": 2, "train_images": 1, "max_epochs": 1}),
        (OptimizerConfig, OPTIMIZER | {"momentum": 0.0, "warmup": 0.0, "weight_decay": 0.0}),
        (OptimizerConfig, OPTIMIZER | {"momentum": 0.999, "warmup": 0.999}),
        (AugmentConfig, {"crop": 0, "cutout": 0, "mixup": 0.0}),
    ],
)
def test_values_at_the_edge_are_possible(kind, values):
    assert dataclasses.asdict(kind(**values)).items() >= values.items()


def test_configurations_are_frozen_and_hashable(make_config, task):
    config = make_config()
    assert hash(config) == hash(make_config())
    for value in (config, config.model, config.optimizer, config.augment, task):
        with pytest.raises(dataclasses.FrozenInstanceError):
            value.anything = 1
        assert pickle.loads(pickle.dumps(value)) == copy.deepcopy(value) == value


def full_config() -> TrialConfig:
    """No field at its default."""
    return TrialConfig(
        model=CnnConfig(widths=((8,), (16, 16)), head="avg", logit_scale=0.125),
        optimizer=OptimizerConfig(
            name="adamw", learning_rate=0.1, weight_decay=1e-4, momentum=0.8, schedule="cosine", warmup=0.1
        ),
        augment=AugmentConfig(flip=True, crop=2, cutout=4, mixup=0.2),
        batch_size=64,
        label_smoothing=0.1,
        averaging="ema",
    )


def test_configuration_survives_json(make_config):
    for config in (full_config(), make_config()):
        assert from_json(to_json(config)) == config
        again = from_json(json.loads(json.dumps(to_json(config))))
        assert again == config
        assert hash(again) == hash(config)


def test_reading_a_document_does_not_change_it():
    document = to_json(full_config())
    before = copy.deepcopy(document)
    from_json(document)
    assert document == before


class NotADataclass:
    pass


@dataclasses.dataclass(frozen=True, kw_only=True)
class NotAModel:
    depth: int = 1


@pytest.mark.parametrize(
    "kind",
    [
        "os:system",
        "os:no_such_name",
        "no_such_module:Config",
        "trainables.config:ModelConfig",
        "trainables.config:Task",
        f"{__name__}:NotAModel",
        f"{__name__}:NotADataclass",
        "trainables.models.cnn",
        ":CnnConfig",
        ".cnn:CnnConfig",
        "",
        None,
        7,
    ],
)
def test_unknown_type_of_model_is_refused(kind):
    document = to_json(full_config())
    document["model"]["type"] = kind
    with pytest.raises(ValueError, match=r"\w"):
        from_json(document)


def test_refused_type_is_named():
    document = to_json(full_config())
    document["model"] = {"type": "os:system"}
    with pytest.raises(ValueError, match="os:system"):
        from_json(document)


@pytest.mark.parametrize(
    "path",
    [(key,) for key in to_json(full_config())]
    + [
        ("model", "type"),
        ("model", "widths"),
        ("optimizer", "name"),
        ("optimizer", "learning_rate"),
    ],
)
def test_missing_value_is_refused(path):
    document = to_json(full_config())
    part = document
    for key in path[:-1]:
        part = part[key]
    del part[path[-1]]
    with pytest.raises(ValueError, match=path[-1]):
        from_json(document)


@pytest.mark.parametrize("part", ["", "model", "optimizer", "augment"])
def test_unknown_value_is_refused(part):
    document = to_json(full_config())
    (document[part] if part else document)["batchsize"] = 3
    with pytest.raises(ValueError, match="batchsize"):
        from_json(document)


@pytest.mark.parametrize("document", [None, 3, "text", [], {}, {"model": None}, {"model": "text"}])
def test_what_is_no_configuration_is_refused(document):
    with pytest.raises(ValueError, match=r"\w"):
        from_json(document)


def test_impossible_value_in_a_document_is_refused():
    document = to_json(full_config())
    document["optimizer"]["momentum"] = 1.5
    with pytest.raises(ValueError, match=r"momentum must be in \[0, 1\), but is 1\.5"):
        from_json(document)


def test_equal_configurations_share_a_hash_and_others_do_not(make_config):
    assert config_hash(full_config()) == config_hash(
        from_json(json.loads(json.dumps(to_json(full_config()))))
    )
    others = [
        make_config(),
        make_config(batch_size=17),
        make_config(optimizer={"learning_rate": 0.051}),
        make_config(augment={"flip": True}),
        make_config(model={"widths": ((8, 8),)}),
    ]
    assert len({config_hash(config) for config in others}) == len(others)


def test_model_config_has_to_build():
    with pytest.raises(TypeError, match="abstract"):
        ModelConfig()
