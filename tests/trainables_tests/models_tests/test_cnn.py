import dataclasses
import json
import subprocess
import sys
import textwrap

import pytest
import torch
from torch import nn

from trainables.config import OptimizerConfig, Task, TrialConfig, from_json, to_json
from trainables.models.cnn import CnnConfig
from trainables.models.cnn_network import Residual, Scale
from trainables.models.size import build_on_meta, count_parameters, output_shape
from trainables.models.whitening import PatchWhitening

TASK = Task(image_size=32, classes=10, train_images=45_000, max_epochs=10)
SMALL = CnnConfig(widths=((8,), (16, 16)))


def layers(config: CnnConfig, task: Task = TASK) -> list[str]:
    """Every layer in the order of the forward pass, as torch prints it."""
    return [repr(module) for module in build_on_meta(config, task).modules() if not list(module.children())]


def change(**fields) -> tuple[list[str], list[str]]:
    """The layers that a change of `SMALL` takes away and adds."""
    before, after = layers(SMALL), layers(dataclasses.replace(SMALL, **fields))
    removed = [layer for layer in before if before.count(layer) > after.count(layer)]
    added = [layer for layer in after if after.count(layer) > before.count(layer)]
    return removed, added


def test_layers_of_a_small_network():
    assert layers(SMALL) == [
        "Conv2d(3, 8, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1), bias=False)",
        "BatchNorm2d(8, eps=1e-05, momentum=0.1, affine=True, bias=True, track_running_stats=True)",
        "ReLU()",
        "MaxPool2d(kernel_size=2, stride=2, padding=0, dilation=1, ceil_mode=False)",
        "Conv2d(8, 16, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1), bias=False)",
        "BatchNorm2d(16, eps=1e-05, momentum=0.1, affine=True, bias=True, track_running_stats=True)",
        "ReLU()",
        "Conv2d(16, 16, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1), bias=False)",
        "BatchNorm2d(16, eps=1e-05, momentum=0.1, affine=True, bias=True, track_running_stats=True)",
        "ReLU()",
        "MaxPool2d(kernel_size=2, stride=2, padding=0, dilation=1, ceil_mode=False)",
        "AvgPool2d(kernel_size=2, stride=2, padding=0)",
        "Flatten(start_dim=1, end_dim=-1)",
        "Linear(in_features=256, out_features=10, bias=True)",
    ]


def test_dropout_of_blocks_changes_nothing_else():
    assert change(block_dropout=0.2) == ([], ["Dropout(p=0.2, inplace=False)"] * 2)


def test_dropout_of_the_head_changes_nothing_else():
    assert change(head_dropout=0.25) == ([], ["Dropout(p=0.25, inplace=False)"])


def test_logit_scale_changes_nothing_else():
    assert change(logit_scale=0.125) == ([], ["Scale(0.125)"])


def test_activation_changes_nothing_else():
    assert change(activation="silu") == (["ReLU()"] * 3, ["SiLU()"] * 3)


def test_dense_layer_comes_with_an_activation():
    removed, added = change(dense=32)
    assert removed == ["Linear(in_features=256, out_features=10, bias=True)"]
    assert [layer for layer in added if layer != "ReLU()"] == [
        "Linear(in_features=256, out_features=32, bias=True)",
        "Linear(in_features=32, out_features=10, bias=True)",
    ]


def test_without_norm_convolutions_have_a_bias():
    removed, added = change(norm="none")
    assert not any("BatchNorm2d" in layer for layer in added)
    assert [layer.replace(", bias=False", "") for layer in removed if "Conv" in layer] == added


def test_kernel_and_valid_padding_reach_every_convolution():
    _, added = change(kernel=5, padding="valid")
    convolutions = [layer for layer in added if "Conv2d" in layer]
    assert len(convolutions) == 3
    assert all("kernel_size=(5, 5)" in layer and "padding" not in layer for layer in convolutions)


def test_pooling_moves_behind_the_first_convolution():
    moved = layers(dataclasses.replace(SMALL, downsample="avg", downsample_at="first"))
    kinds = [layer.partition("(")[0] for layer in moved]
    assert kinds[4:11] == ["Conv2d", "AvgPool2d", "BatchNorm2d", "ReLU", "Conv2d", "BatchNorm2d", "ReLU"]


def test_stride_replaces_pooling():
    removed, added = change(downsample="stride", downsample_at="first")
    assert [layer for layer in removed if "MaxPool" in layer]
    assert [layer.partition(" kernel")[0] for layer in added if "stride=(2, 2)" in layer] == [
        "Conv2d(3, 8,",
        "Conv2d(8, 16,",
    ]


def test_residual_adds_its_input():
    network = dataclasses.replace(SMALL, residual=True).build(TASK)
    blocks = [module for module in network.modules() if isinstance(module, Residual)]
    assert [type(layer) for layer in blocks[0].layers] == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU]
    assert len(blocks) == 1
    maps = torch.randn(2, 16, 4, 4)
    torch.testing.assert_close(blocks[0](maps), maps + blocks[0].layers(maps))


def test_whitening_comes_first_and_doubles_the_channels():
    network = dataclasses.replace(SMALL, whitening=True).build(TASK)
    first, activation = network.get_submodule("stem").children()
    assert isinstance(first, PatchWhitening)
    assert isinstance(activation, nn.ReLU)
    assert next(m for m in network.modules() if isinstance(m, nn.Conv2d)).in_channels == 24


def test_input_stride_without_whitening_is_a_learnt_convolution():
    removed, added = change(input_stride=4)
    assert "Conv2d(3, 8, kernel_size=(4, 4), stride=(4, 4), bias=False)" in added
    assert any("Conv2d(3, 8," in layer for layer in removed)


@pytest.mark.parametrize(("head", "pooling"), [("avg", nn.AvgPool2d), ("max", nn.MaxPool2d)])
def test_pooling_head_takes_one_value_a_channel(head, pooling):
    network = dataclasses.replace(SMALL, head=head).build(TASK)
    maps = torch.randn(2, 16, 8, 8)
    pool = next(iter(network.get_submodule("head").children()))
    assert isinstance(pool, pooling)
    expected = maps.mean((2, 3)) if head == "avg" else maps.amax((2, 3))
    torch.testing.assert_close(pool(maps).flatten(1), expected)


def test_scale_multiplies():
    assert Scale(0.5)(torch.tensor([2.0, 4.0])).tolist() == [1.0, 2.0]


@pytest.mark.parametrize("image_size", [8, 13, 28, 32, 64, 224])
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"whitening": True},
        {"downsample": "stride", "downsample_at": "first"},
        {"downsample": "stride", "downsample_at": "first", "padding": "valid", "widths": ((8,),)},
        {"downsample_at": "first", "padding": "valid", "widths": ((8, 8),)},
        {"input_stride": 2, "widths": ((8,),)},
        {"input_stride": 2, "whitening": True, "widths": ((8,),)},
    ],
)
def test_map_size_is_what_torch_computes(image_size, fields):
    config = dataclasses.replace(SMALL, **fields)
    maps = torch.empty(1, 3, image_size, image_size, device="meta")
    network = build_on_meta(config, dataclasses.replace(TASK, image_size=image_size)).eval()
    for name, part in network.named_children():
        if name != "head":
            maps = part(maps)
    assert tuple(maps.shape[2:]) == (config.map_size(image_size),) * 2


@pytest.mark.parametrize(
    "fields",
    [{"padding": "valid", "kernel": 5}, {"widths": ((8,),) * 4}, {"whitening": True, "widths": ((8,),) * 3}],
)
def test_image_too_small_is_refused_with_its_size(fields):
    config = dataclasses.replace(SMALL, **fields)
    with pytest.raises(ValueError, match="images of 8 pixels are too small"):
        config.build(dataclasses.replace(TASK, image_size=8))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"widths": ()}, r"at least one stage.*are \(\)"),
        ({"widths": ((8,), ())}, "channels of at least 1"),
        ({"widths": ((0,),)}, "channels of at least 1"),
        ({"kernel": 4}, "kernel must be odd and positive, but is 4"),
        ({"padding": "full"}, "padding must be one of same, valid, but is 'full'"),
        ({"norm": "layer"}, "norm must be one of"),
        ({"activation": "tanh"}, "activation must be one of"),
        ({"downsample": "blur"}, "downsample must be one of"),
        ({"downsample_at": "middle"}, "downsample_at must be one of"),
        ({"downsample": "stride"}, "strides in its first convolution"),
        ({"head": "attention"}, "head must be one of"),
        ({"residual": True, "padding": "valid"}, "residual needs padding same.*'valid'"),
        ({"residual": True, "widths": ((8, 16),)}, "residual needs .* one width"),
        ({"input_stride": 0}, "input_stride must be at least 1 pixel, but is 0"),
        ({"dense": -1}, "dense must be at least 0 units, but is -1"),
        ({"logit_scale": 0.0}, "logit_scale must be a positive number, but is 0.0"),
        ({"logit_scale": float("nan")}, "logit_scale must be a positive number, but is nan"),
        ({"block_dropout": 1.0}, r"block_dropout must be a share in \[0, 1\), but is 1.0"),
        ({"head_dropout": -0.1}, "head_dropout must be a share"),
    ],
)
def test_impossible_value_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SMALL, **fields)


def test_parameter_count_of_a_small_network():
    convolutions = 9 * (3 * 8 + 8 * 16 + 16 * 16)
    norms = 2 * (8 + 16 + 16)
    assert count_parameters(SMALL, TASK) == convolutions + norms + 256 * 10 + 10


@pytest.mark.parametrize("fields", [{}, {"whitening": True}, {"dense": 64}, {"norm": "none"}])
def test_parameter_count_is_that_of_the_real_network(fields):
    config = dataclasses.replace(SMALL, **fields)
    assert count_parameters(config, TASK) == sum(p.numel() for p in config.build(TASK).parameters())


def test_counting_draws_no_random_number():
    before = torch.get_rng_state()
    count_parameters(SMALL, TASK)
    assert torch.equal(before, torch.get_rng_state())


def test_output_shape_is_that_of_the_real_network():
    assert output_shape(SMALL, TASK, batch=3) == tuple(SMALL.build(TASK)(torch.randn(3, 3, 32, 32)).shape)


def test_seed_decides_the_weights():
    def weights(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return nn.utils.parameters_to_vector(SMALL.build(TASK).parameters())

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def test_signal_keeps_its_size_without_norm():
    torch.manual_seed(0)
    config = CnnConfig(widths=((64, 64, 64), (128, 128, 128)), norm="none", downsample="avg")
    network = config.build(TASK)
    maps = network.get_submodule("stage1")(torch.randn(8, 3, 32, 32))
    assert 0.1 < maps.square().mean().sqrt() < 10


def test_configuration_survives_json():
    trial = TrialConfig(model=SMALL, optimizer=OptimizerConfig(name="sgd", learning_rate=0.1))
    assert from_json(json.loads(json.dumps(to_json(trial)))) == trial


@pytest.mark.slow
def test_counting_does_not_load_the_compiler():
    code = """
        import sys
        from trainables.config import Task
        from trainables.models.cnn import CnnConfig
        from trainables.models.size import count_parameters
        assert "torch" not in sys.modules
        task = Task(image_size=32, classes=10, train_images=100, max_epochs=1)
        count_parameters(CnnConfig(widths=((8,),), whitening=True), task)
        assert "torch._dynamo" not in sys.modules and "sympy" not in sys.modules
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)


def test_mirrored_logits_are_the_mean_of_both_ways_outside_training_and_those_of_one_in_it():
    once, both = (dataclasses.replace(SMALL, mirror=mirror).build(TASK) for mirror in (False, True))
    both.load_state_dict(once.state_dict())
    images = torch.randn(6, 3, 32, 32)
    once.eval(), both.eval()
    assert torch.allclose(both(images), (once(images) + once(images.flip(3))) / 2, atol=1e-6)
    assert torch.allclose(both(images), both(images.flip(3)), atol=1e-6)
    assert not torch.allclose(both(images), once(images), atol=1e-3)
    assert torch.equal(both.train()(images), once.train()(images))
