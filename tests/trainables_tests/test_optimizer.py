import pytest
from torch import nn

from trainables.config import OptimizerConfig
from trainables.models.cnn import CnnConfig
from trainables.optimizer import make_optimizer
from trainables.training import Training


def test_biases_and_norms_are_not_decayed(task):
    model = CnnConfig(widths=((4,), (4,)), whitening=True).build(task)
    model.get_parameter("stage1.0.weight").requires_grad_(False)
    optimizer = make_optimizer(OptimizerConfig(name="adamw", learning_rate=0.1, weight_decay=0.3), model)
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        if name == "stage1.0.weight":
            assert id(parameter) not in decay  # frozen
            continue
        layer = model.get_submodule(name.rpartition(".")[0])
        is_weight = name.endswith("weight") and not isinstance(layer, nn.BatchNorm2d)
        assert decay.pop(id(parameter)) == (0.3 if is_weight else 0.0), name
    assert not decay


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_optimizer_has_what_was_configured(name, task, data):
    config = OptimizerConfig(name=name, learning_rate=0.1, weight_decay=0.3, momentum=0.7)
    optimizer = make_optimizer(config, CnnConfig(widths=((4,),)).build(task))
    assert type(optimizer).__name__.lower() == name
    for group in optimizer.param_groups:
        if name == "sgd":
            assert (group["momentum"], group["nesterov"]) == (0.7, True)
        else:
            assert group["betas"] == (0.7, 0.999)


def test_sgd_without_momentum(make_config, task, data):
    config = make_config(optimizer={"momentum": 0.0})
    assert Training(config, task, data, seed=0).run_epoch().finite()
