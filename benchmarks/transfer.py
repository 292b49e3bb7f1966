"""Does fine-tuning transfer? Pretrain on some classes, then learn others from few images.

Beside it stands the same budget from scratch.

python -m benchmarks.transfer --dataset digits --images 5 --epochs 20

Every row trains for as many steps on the same images, and is scored on the same validation images, of
classes that the pretraining never saw. A row is a mean over seeds, each with a draw of images of its own.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from benchmarks.training_process import prepare_process, task_of
from trainables.config import AugmentConfig, FineTuneConfig, OptimizerConfig, TrialConfig
from trainables.data import Dataset, Part, load_dataset
from trainables.device import place
from trainables.models.pretrained import (
    ARCHITECTURES,
    TRAINED_STAGES,
    Architecture,
    PretrainedConfig,
    Unfrozen,
)
from trainables.precision import choose_precision
from trainables.training import Training
from trainables.weights import NO_WEIGHTS, Weights

NAME = "pretrained"


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is trained, and for how long."""

    architecture: Architecture
    input_size: int
    pretraining_epochs: int
    epochs: int
    images: int
    """Of each class that is learnt from few."""
    pretraining_images: int | None = None
    """Of each class to pretrain on, at most; None is all."""
    device: torch.device


def only(dataset: Dataset, classes: Sequence[int], images: int | None = None, seed: int = 0) -> Dataset:
    """The data set with these classes alone, at most so many training images of each, drawn by `seed`."""

    def part(of: Part, most: int | None) -> Part:
        rng = np.random.default_rng(seed)
        chosen = [rng.permutation(np.flatnonzero(of.labels == label))[:most] for label in classes]
        labels = np.repeat(np.arange(len(classes)), [len(index) for index in chosen])
        return Part(images=of.images[np.concatenate(chosen)], labels=labels)

    names = tuple(dataset.class_names[label] for label in classes)
    return replace(dataset, class_names=names, train=part(dataset.train, images), val=part(dataset.val, None))


def pretrain(dataset: Dataset, setting: Setting) -> Weights:
    """A backbone that was trained from scratch on all of these images."""
    training = _train(
        dataset,
        setting,
        PretrainedConfig(architecture=setting.architecture, weights="none", input_size=setting.input_size),
        epochs=setting.pretraining_epochs,
        seed=0,
    )
    state = {
        name.removeprefix("backbone."): tensor.numpy()
        for name, tensor in training.scored_weights().items()
        if name.startswith("backbone.")
    }
    return Weights(name=NAME, states={setting.architecture: state})


def from_scratch(dataset: Dataset, setting: Setting, seed: int) -> float:
    """Validation accuracy of a network that begins with random values."""
    model = PretrainedConfig(architecture=setting.architecture, weights="none", input_size=setting.input_size)
    return _accuracy(_train(dataset, setting, model, epochs=setting.epochs, seed=seed))


def fine_tuned(dataset: Dataset, setting: Setting, weights: Weights, unfrozen: Unfrozen, seed: int) -> float:
    """Validation accuracy of a pretrained network of which this much is trained."""
    model = PretrainedConfig(
        architecture=setting.architecture,
        weights=weights.name,
        unfrozen=unfrozen,
        input_size=setting.input_size,
    )
    return _accuracy(_train(dataset, setting, model, epochs=setting.epochs, seed=seed, weights=weights))


def _train(
    dataset: Dataset,
    setting: Setting,
    model: PretrainedConfig,
    *,
    epochs: int,
    seed: int,
    weights: Weights = NO_WEIGHTS,
) -> Training:
    pretrained = model.weights != "none"
    config = TrialConfig(
        model=model,
        optimizer=OptimizerConfig(name="adam", learning_rate=1e-3, schedule="cosine", warmup=0.1),
        augment=AugmentConfig(crop=2),
        fine_tune=FineTuneConfig(backbone_rate=0.3) if pretrained else FineTuneConfig(),
        batch_size=32,
    )
    task = task_of(dataset, epochs, model.weights)
    precision = choose_precision("auto", model, task, config.batch_size, setting.device)
    data = place(dataset, setting.device)
    training = Training(config, task, data, seed=seed, precision=precision, weights=weights)
    for _ in training.epochs():
        pass
    return training


def _accuracy(training: Training) -> float:
    _, confusion = training.validate()
    return float(confusion.diagonal().sum() / confusion.sum())


def compare(dataset: Dataset, known: Sequence[int], setting: Setting, seeds: int) -> pd.DataFrame:
    """Accuracy by way (column) and seed (row) on the classes that are not `known`."""
    others = [label for label in range(len(dataset.class_names)) if label not in known]
    weights = pretrain(only(dataset, known, setting.pretraining_images), setting)
    rows = []
    for seed in range(seeds):
        few = only(dataset, others, setting.images, seed)
        row = {"from scratch": from_scratch(few, setting, seed)}
        for unfrozen in TRAINED_STAGES:
            row[f"unfrozen: {unfrozen}"] = fine_tuned(few, setting, weights, unfrozen, seed)
        rows.append(row)
    return pd.DataFrame(rows)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--known", type=int, default=5, help="classes to pretrain on, the first ones")
    parser.add_argument("--pretraining-images", type=int, help="of each of them, at most; default: all")
    parser.add_argument("--images", type=int, default=5, help="of each other class")
    parser.add_argument("--pretraining-epochs", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--architecture", default="resnet18", choices=ARCHITECTURES)
    parser.add_argument("--input-size", type=int, default=32)
    parser.add_argument("--device", default="auto")
    chosen = parser.parse_args()
    device = prepare_process(chosen.device, threads=torch.get_num_threads())
    setting = Setting(
        architecture=chosen.architecture,
        input_size=chosen.input_size,
        pretraining_epochs=chosen.pretraining_epochs,
        epochs=chosen.epochs,
        images=chosen.images,
        pretraining_images=chosen.pretraining_images,
        device=device,
    )
    dataset = load_dataset(chosen.dataset, data_dir=chosen.data_dir)
    table = compare(dataset, range(chosen.known), setting, chosen.seeds)
    others = len(dataset.class_names) - chosen.known
    print(
        f"{chosen.architecture} at {chosen.input_size} px, {dataset.name}: {chosen.images} images of each of "
        f"{others} classes, {chosen.epochs} epochs; pretrained on {chosen.known} other classes"
    )
    summary = pd.DataFrame({"accuracy": table.mean(), "deviation": table.std(), "worst": table.min()})
    print((100 * summary).to_string(float_format="{:.1f} %".format))


if __name__ == "__main__":
    main()
