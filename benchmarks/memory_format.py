"""Which memory format trains faster? Steps of one core, contiguous and channels_last in turn.

python -m benchmarks.memory_format
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import pandas as pd
import torch
import torchvision
from torch import nn
from torch.nn import functional

from benchmarks.training_process import prepare_process
from spaces import cnn, fixed_trial
from trainables.config import Task

FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
ROUNDS = 9


def networks() -> dict[str, tuple[Callable[[], nn.Module], int, int]]:
    """What builds each network, the size of its images, and the batch size."""
    task = Task(image_size=32, classes=10, train_images=45_000, max_epochs=9)

    def baseline(name: str) -> Callable[[], nn.Module]:
        config = cnn.suggest(fixed_trial(cnn.BASELINES[name]), task)
        return lambda: config.model.build(task)

    return {
        **{name: (baseline(name), 32, 128) for name in ("plain", "plain_bn", "deep", "speedrun")},
        **{name: (getattr(torchvision.models, name), 64, 32) for name in ("resnet18", "mobilenet_v2")},
        **{
            name: (getattr(torchvision.models, name), 64, 16)
            for name in ("mobilenet_v3_large", "densenet121")
        },
    }


def images_a_second(build: Callable[[], nn.Module], pixels: int, batch: int) -> dict[str, float]:
    """Of CPU time, by format: medians of steps in turn, after one that is not counted."""
    labels = torch.randint(10, (batch,))
    kinds = {}
    for name, kind in FORMATS.items():
        images = torch.randn(batch, 3, pixels, pixels).contiguous(memory_format=kind)
        kinds[name] = (build().to(memory_format=kind), images)
    seconds: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(1 + ROUNDS):
        for name, (net, images) in kinds.items():
            began = time.process_time()
            functional.cross_entropy(net(images), labels).backward()
            seconds[name].append(time.process_time() - began)
    return {name: batch / median(times[1:]) for name, times in seconds.items()}


def main() -> None:
    """The command line."""
    prepare_process("cpu")
    table = pd.DataFrame({name: images_a_second(*network) for name, network in networks().items()}).T
    table["channels_last / contiguous"] = table["channels_last"] / table["contiguous"]
    print("images a second of one core, fp32")
    print(table.to_string(float_format="{:.2f}".format))


if __name__ == "__main__":
    main()
