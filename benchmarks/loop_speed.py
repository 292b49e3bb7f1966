"""How fast is the training loop? Images a second beside a loop written by hand and the tutorial's pipeline.

    python -m benchmarks.loop_speed --dataset cifar10
    python -m benchmarks.loop_speed --dataset cifar10 --device cuda

All train the same networks with the same optimizer and batch size, in turn: CPU time of one core, or wall
time on a GPU. An evaluation after each epoch is counted. `image by image` is the pipeline of Ray Tune's
tutorial, transforms and a DataLoader, in fp32, with torchvision's flips and crops where the network trains
with them. The loop written by hand does a little less than ours: no label smoothing, no averaged weights, no
training accuracy.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from statistics import median

import pandas as pd
import torch

from benchmarks.bare_loop import BareLoop, ImageByImage, part_of, rounds
from benchmarks.training_process import prepare_process, task_of
from spaces import cnn, fixed_trial
from trainables.config import Task, TrialConfig
from trainables.data import Dataset, load_dataset
from trainables.device import place
from trainables.optimizer import make_optimizer
from trainables.precision import PrecisionChoice, choose_precision
from trainables.training import Training

NETWORKS = ("plain", "speedrun")
EPOCHS = 1000
"""Of a schedule that is never finished."""


def config_of(name: str, task: Task) -> TrialConfig:
    """A baseline of the space `cnn`."""
    return cnn.suggest(fixed_trial(cnn.BASELINES[name]), task)


def loops(
    config: TrialConfig, task: Task, data: Dataset, device: torch.device, choice: PrecisionChoice
) -> tuple[str, dict[str, Callable[[], object]]]:
    """The precision chosen, and by name what trains and evaluates one epoch."""
    precision = choose_precision(choice, config.model, task, config.batch_size, device)

    def model() -> torch.nn.Module:
        return config.model.build(task).to(device)

    ours = Training(config, task, place(data, device), seed=0, precision=precision)
    by_hand = model().to(memory_format=torch.channels_last)
    bare = BareLoop(
        by_hand,
        make_optimizer(config.optimizer, by_hand),
        data,
        config.batch_size,
        config.augment,
        device=device,
        bf16=precision == "bf16",
    )
    plain = model()
    workers = 8 if device.type == "cuda" else 0  # the tutorial's; without a GPU they would share its core
    optimizer = make_optimizer(config.optimizer, plain)
    one_by_one = ImageByImage(
        plain,
        optimizer,
        data,
        config.batch_size,
        device=device,
        workers=workers,
        augment=bool(config.augment.flip or config.augment.crop),
    )
    return precision, {"ours": ours.run_epoch, "bare loop": bare.epoch, "image by image": one_by_one.epoch}


def measured(
    loop: dict[str, Callable[[], object]], images: int, rounds_: int, device: torch.device
) -> dict[str, list[float]]:
    """Images a second of each loop, a value a round; a round before the first is not counted."""
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    rates: dict[str, list[float]] = defaultdict(list)
    for epoch in loop.values():
        epoch()
    for name in rounds(rounds_, list(loop)):
        began = clock()
        loop[name]()
        rates[name].append(images / (clock() - began))
    return rates


def row(network: str, precision: str, rates: dict[str, list[float]]) -> dict[str, object]:
    """Medians, and medians of the ratios of each round."""
    against = {
        f"ours / {name}": median(a / b for a, b in zip(rates["ours"], rates[name], strict=True))
        for name in rates
        if name != "ours"
    }
    return {
        "network": network,
        "precision": precision,
        **{name: round(ratio, 2) for name, ratio in against.items()},
        **{f"{name}, images/s": round(median(values)) for name, values in rates.items()},
    }


def compared(
    dataset: str,
    *,
    images: int | None = None,
    count: int = 5,
    on: str = "cpu",
    choice: PrecisionChoice = "auto",
) -> tuple[str, pd.DataFrame]:
    """What was measured, and a row a network. Changes settings of this process.

    `images` of the training part: by default 3,000, or 45,000 on a GPU, beside which loaders start slowly.
    """
    device = prepare_process(on)
    images = images or (45_000 if device.type == "cuda" else 3000)
    data = load_dataset(dataset)
    data = replace(data, train=part_of(data.train, images), val=part_of(data.val, images // 10))
    task = task_of(data, EPOCHS)
    table = []
    for network in NETWORKS:
        precision, loop = loops(config_of(network, task), task, data, device, choice)
        table.append(row(network, precision, measured(loop, len(data.train), count, device)))
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else "one core"
    title = (
        f"{data.name}, {len(data.train):,} images of {task.image_size} px, {where}, medians of {count} rounds"
    )
    return title, pd.DataFrame(table).set_index("network")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--dataset", default="auto", help="as for search.run")
    parser.add_argument(
        "--images", type=int, help="of the training part, 3000, or 45000 on a GPU; a tenth validates"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--precision", default="auto", choices=["auto", "fp32", "bf16"])
    options = parser.parse_args()
    title, table = compared(
        options.dataset,
        images=options.images,
        count=options.rounds,
        on=options.device,
        choice=options.precision,
    )
    print(title)
    print(table.T.to_string())


if __name__ == "__main__":
    main()
