import re
from dataclasses import replace

import pytest
import torch
import torchvision
from torch import nn

from trainables.classifier import load_classifier, save_classifier
from trainables.config import InStages, OptimizerConfig, Task, TrialConfig, from_json, to_json
from trainables.models import pretrained_network
from trainables.models.pretrained import ARCHITECTURES, STAGES, TRAINED_STAGES, PretrainedConfig
from trainables.models.pretrained_network import HEADS, build_backbone, resized
from trainables.models.size import build_on_meta, count_macs, count_parameters, output_shape

TASK = Task(image_size=8, classes=3, train_images=60, max_epochs=4)
CONFIG = PretrainedConfig(architecture="mobilenet_v2", input_size=32)


def published(architecture: str) -> nn.Module:
    return torchvision.models.get_model(architecture, weights=None)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_backbone_computes_what_torchvision_computes(architecture):
    torch.manual_seed(0)
    original = published(architecture).eval()
    network = PretrainedConfig(architecture=architecture, input_size=48).build(TASK).eval()
    state = {name: t for name, t in original.state_dict().items() if not name.startswith(HEADS[architecture])}
    network.load_backbone(state)
    images = torch.randn(2, 3, 48, 48)
    last = list(original.modules())[-1]
    assert isinstance(last, nn.Linear)
    with torch.inference_mode():
        torch.testing.assert_close(last(network.features(images)), original(images))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_stages_hold_each_weight_of_the_backbone_once(architecture):
    network = build_on_meta(PretrainedConfig(architecture=architecture), TASK)
    assert isinstance(network, InStages)
    staged = [id(p) for stage in network.stages() for module in stage for p in module.parameters()]
    assert len(network.stages()) == STAGES
    assert sorted(staged) == sorted(id(p) for p in network.backbone.parameters())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("unfrozen", TRAINED_STAGES)
def test_only_what_is_unfrozen_needs_gradients(architecture, unfrozen):
    network = build_on_meta(PretrainedConfig(architecture=architecture, unfrozen=unfrozen), TASK)
    stages = network.stages()
    trained = stages[STAGES - TRAINED_STAGES[unfrozen] :]
    expected = [*network.head.parameters(), *(p for stage in trained for m in stage for p in m.parameters())]
    found = {id(p) for p in network.parameters() if p.requires_grad}
    assert found == {id(p) for p in expected}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_stem_for_small_images_keeps_maps_four_times_as_large(architecture):
    maps = {}
    for stem in ("imagenet", "small"):
        network = PretrainedConfig(architecture=architecture, stem=stem).build(TASK).eval()
        shapes: list[int] = []
        last = network.stages()[-1][0]
        last.register_forward_hook(lambda module, _, output, shapes=shapes: shapes.append(output.shape[-1]))
        with torch.inference_mode():
            network(torch.zeros(1, 3, 64, 64))
        maps[stem] = (shapes[0], {name: t.shape for name, t in network.state_dict().items()})
    assert maps["small"][0] == 4 * maps["imagenet"][0]
    assert maps["small"][1] == maps["imagenet"][1]


def statistics(network: nn.Module) -> list[torch.Tensor]:
    """Running means, norm by norm, from the image to the head."""
    return [m.running_mean.clone() for m in network.modules() if isinstance(m, nn.BatchNorm2d)]


@pytest.mark.parametrize(
    ("unfrozen", "freeze_norms", "moving"),
    [("all", False, 20), ("last", False, 5), ("head", False, 0), ("all", True, 0)],
)
def test_statistics_of_frozen_stages_and_frozen_norms_stay(unfrozen, freeze_norms, moving):
    config = PretrainedConfig(
        architecture="resnet18", unfrozen=unfrozen, freeze_norms=freeze_norms, input_size=32
    )
    network = config.build(TASK).train()
    before = statistics(network)
    network(torch.randn(4, 3, 32, 32))
    moved = [not torch.equal(a, b) for a, b in zip(before, statistics(network), strict=True)]
    assert moved == [False] * (20 - moving) + [True] * moving


def test_train_and_eval_go_back_and_forth():
    network = replace(CONFIG, unfrozen="last", dropout=0.5).build(TASK)
    for _ in range(2):
        assert network.train().training
        assert network.head.training
        assert not network.backbone.features[0].training
        assert network.backbone.features[18].training
        network.eval()
        assert not any(module.training for module in network.modules())


@pytest.mark.parametrize(("dropout", "head_width"), [(0.0, 0), (0.25, 0), (0.0, 16), (0.25, 16)])
def test_head(dropout, head_width):
    network = build_on_meta(replace(CONFIG, dropout=dropout, head_width=head_width), TASK)
    wanted = ["Dropout"] * (dropout > 0) + ["Linear", "ReLU"] * (head_width > 0) + ["Linear"]
    assert [type(layer).__name__ for layer in network.head] == wanted
    assert network.head[-1].out_features == 3


def test_images_are_resized_by_the_network():
    network = replace(CONFIG, input_size=40).build(TASK).eval()
    images = torch.randn(2, 3, 8, 8)
    large = nn.functional.interpolate(images, (40, 40), mode="bilinear", align_corners=False)
    with torch.inference_mode():
        torch.testing.assert_close(network(images), network(large))


def test_images_are_made_smaller_without_false_patterns():
    board = (torch.arange(64) % 2).float().expand(1, 1, 64, 64)
    assert resized(board, 64) is board
    small = resized(board, 33)
    assert (small[..., 4:-4] - 0.5).abs().max() < 0.2


@pytest.mark.parametrize(
    ("architecture", "parameters", "macs"),
    [
        # https://pytorch.org/vision/stable/models.html: with 1,000 classes, at 224 px
        ("resnet18", 11_689_512, 1.814e9),
        ("mobilenet_v2", 3_504_872, 0.301e9),
        ("mobilenet_v3_large", 5_483_032, 0.217e9),
        ("densenet121", 7_978_856, 2.834e9),
    ],
)
def test_size_and_cost_are_those_published(architecture, parameters, macs):
    task = Task(image_size=224, classes=1000, train_images=1, max_epochs=1)
    config = PretrainedConfig(architecture=architecture, input_size=224)
    assert count_parameters(config, task) == parameters
    assert count_macs(config, task) == pytest.approx(macs, rel=0.01)
    assert output_shape(config, task) == (2, 1000)


def test_cost_is_that_of_the_size_the_network_sees():
    macs = {size: count_macs(replace(CONFIG, input_size=size), TASK) for size in (32, 64)}
    assert macs[64] == pytest.approx(4 * macs[32], rel=0.01)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("architecture", "resnet19"),
        ("unfrozen", "some"),
        ("stem", "tiny"),
        ("input_size", 31),
        ("input_size", 225),
        ("dropout", 1.0),
        ("dropout", -0.5),
        ("head_width", -1),
    ],
)
def test_impossible_value_is_refused(field, value):
    with pytest.raises(ValueError, match=re.escape(str(value))) as caught:
        replace(CONFIG, **{field: value})
    assert field in str(caught.value)


def test_images_of_one_channel_are_refused():
    with pytest.raises(ValueError, match="3 channels, but these have 1"):
        CONFIG.build(replace(TASK, channels=1))


def test_configuration_survives_json():
    config = TrialConfig(
        model=replace(
            CONFIG, weights="0123456789abcdef", unfrozen="last_two", freeze_norms=True, stem="small"
        ),
        optimizer=OptimizerConfig(name="sgd", learning_rate=0.1),
    )
    assert from_json(to_json(config)) == config


def test_fewer_images_are_scored_at_once_where_maps_are_large():
    assert replace(CONFIG, input_size=32).evaluation_batch == 500
    assert replace(CONFIG, input_size=224).evaluation_batch == 40
    assert replace(CONFIG, input_size=32, stem="small").evaluation_batch == 125
    assert replace(CONFIG, input_size=224, stem="small").evaluation_batch >= 1


def test_saved_classifier_is_loaded_without_pretrained_weights(tmp_path, monkeypatch):
    config = TrialConfig(
        model=replace(CONFIG, weights="0123456789abcdef", unfrozen="head"),
        optimizer=OptimizerConfig(name="sgd", learning_rate=0.1),
    )
    network = config.model.build(TASK)
    about = {"class_names": ("a", "b", "c"), "mean": (0.5,) * 3, "std": (0.2,) * 3, "about": {}}
    save_classifier(tmp_path, network.state_dict(), config=config, task=TASK, **about)
    classifier = load_classifier(tmp_path)
    images = torch.randint(256, (5, 8, 8, 3), dtype=torch.uint8).numpy()
    assert classifier.probabilities(images).shape == (5, 3)
    loaded = classifier.model.state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in network.state_dict().items())


def test_every_architecture_has_a_head_whose_names_are_known():
    for architecture in ARCHITECTURES:
        names = set(published(architecture).state_dict())
        ours = set(build_backbone(architecture)[0].state_dict())
        assert {name for name in names if not name.startswith(HEADS[architecture])} == ours
    assert set(pretrained_network.STAGES) == set(HEADS) == set(ARCHITECTURES)
