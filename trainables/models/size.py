"""How large a network is, what it costs and what it gives, found without training it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from trainables.config import ModelConfig, Task
from trainables.models.pretrained import PretrainedConfig

if TYPE_CHECKING:
    import torch
    from torch import nn


def build_on_meta(config: ModelConfig, task: Task) -> nn.Module:
    """The network with shapes but without values: no memory is allocated, no random number drawn."""
    import torch

    with torch.device("meta"), _nothing_filled(), torch.random.fork_rng(devices=()):
        return config.build(task)


def _nothing_filled() -> AbstractContextManager[object]:
    """Initializers leave their tensors alone: on the meta device they were half the time of building."""
    from torch import nn
    from torch.overrides import TorchFunctionMode

    fills = {name for name in dir(nn.init) if name.endswith("_") and not name.startswith("_")}

    class NothingFilled(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if getattr(func, "__name__", "") in fills:
                return args[0] if args else kwargs["tensor"]
            return func(*args, **(kwargs or {}))

    return NothingFilled()


def count_parameters(config: ModelConfig, task: Task) -> int:
    """Numbers in all parameters, frozen ones too, but not in buffers (running averages, whitening filters).

    Raises ValueError where the network does not fit the task.
    """
    return sum(parameter.numel() for parameter in build_on_meta(config, task).parameters())


def output_shape(config: ModelConfig, task: Task, *, batch: int = 2) -> tuple[int, ...]:
    """Shape of what the network makes of `batch` blank images of the task. No random number is drawn."""
    import torch

    with _measured_on(config), torch.random.fork_rng(devices=()), torch.no_grad():
        images = torch.zeros(batch, task.channels, task.image_size, task.image_size)
        return tuple(config.build(task).eval()(images).shape)


def count_macs(config: ModelConfig, task: Task) -> int:
    """Multiply-adds of the convolutions and linear layers for one image, in a training step's pass forward.

    Time follows them closely, on one kind of layer and one machine. What a network of a user's own does
    outside such layers is not counted.
    """
    import torch
    from torch import nn

    total = 0

    def add(module: nn.Module, _: object, output: torch.Tensor) -> None:
        nonlocal total
        assert isinstance(module.weight, torch.Tensor)
        total += output.numel() * module.weight[0].numel()

    with _measured_on(config), torch.random.fork_rng(devices=()), torch.inference_mode():
        network = config.in_training().build(task).eval()
        for module in network.modules():
            if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear):
                module.register_forward_hook(add)
        network(torch.zeros(1, task.channels, task.image_size, task.image_size))
    return total


def _measured_on(config: ModelConfig) -> torch.device:
    """Where to look at a network: the meta device computes shapes alone, whatever an image costs.

    Its first activation makes torch load its compiler, which takes longer than many passes of a small network
    on the CPU; torchvision has loaded it already. A network of a user's own may do what needs values.
    """
    import torch

    return torch.device("meta" if isinstance(config, PretrainedConfig) else "cpu")
