"""The training loop of one trial. It knows no Ray: images and a configuration in, one report an epoch out."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from trainables import augment, metrics
from trainables.averaging import WeightAverage, scored_weights
from trainables.batches import RawBatch, copied_ahead, raw_batches
from trainables.compiling import compile_network
from trainables.config import Averaging, InitializedFromData, Task, TrialConfig
from trainables.device import DeviceData, DevicePart
from trainables.features import FeatureCache
from trainables.fine_tuning import GradualUnfreezing
from trainables.optimizer import make_optimizer, set_rate
from trainables.precision import Precision, autocast
from trainables.schedule import learning_rate
from trainables.seeding import derive_seed
from trainables.weights import NO_WEIGHTS, Weights, initialize

EVALUATION_BATCH = 500
INITIALIZATION_PIXELS = 5_000_000
"""Enough for the statistics of small patches, and as floats 60 MB, however large an image is."""


@dataclass(frozen=True, kw_only=True)
class EpochReport:
    """What one epoch did. Losses are means over images, in nats, without label smoothing on validation.

    What is measured on validation images is None where there are none.
    """

    epoch: int
    """Epochs finished, 1 to max_epochs."""
    train_loss: float
    train_accuracy: float
    """Share of augmented training images classified right while training (mixup: as the larger part)."""
    val_loss: float | None
    val_accuracy: float | None
    val_macro_f1: float | None
    learning_rate: float
    """At the last step of the epoch."""
    images_per_second: float
    """Training images a second of training, evaluation not counted."""
    seconds: float
    """Wall time of the epoch, training and evaluation."""
    validation_seconds: float
    """The part of it that evaluation took."""

    def finite(self) -> bool:
        """Whether losses and scores are numbers; one that is not means the trial diverged."""
        return all(math.isfinite(value) for value in asdict(self).values() if value is not None)


class Training:
    """One trial's network, optimizer and position in its schedule.

    Every draw comes from (seed, epoch), so a training that goes on from `state()` equals one that was
    never interrupted: bit for bit on a CPU, unless it is compiled.
    """

    def __init__(
        self,
        config: TrialConfig,
        task: Task,
        data: DeviceData,
        *,
        seed: int,
        precision: Precision = "fp32",
        weights: Weights = NO_WEIGHTS,
        features: FeatureCache | None = None,
    ) -> None:
        """`weights` for a pretrained network; `features` that trials on the same data share.

        Raises ValueError where the network does not fit the task, or is to begin with other weights.
        """
        self.config, self.task, self.data = config, task, data
        self.seed, self.precision = seed, precision
        self.device = data.device
        self.epoch = 0
        images = len(data.train.labels)
        # batches of nearly equal size: no image left out, and no tiny last batch to upset the norms
        self.steps_per_epoch = max(1, round(images / config.batch_size))
        self.steps = self.steps_per_epoch * task.max_epochs

        _seed_all(derive_seed(seed, "weights"))
        model = config.model.build(task)
        initialize(model, config.model, weights)
        self.model = model.to(self.device).to(memory_format=torch.channels_last)
        self._initialize_from_data()
        self.optimizer = make_optimizer(config.optimizer, self.model, config.fine_tune)
        self.average = (
            None if config.averaging == "none" else WeightAverage(config.averaging, self.model, self.steps)
        )
        self.unfreezing = (
            GradualUnfreezing(self.model, config.fine_tune, task.max_epochs)
            if config.fine_tune.unfreeze_over > 0
            else None
        )
        self.features = features or FeatureCache()
        self._choose_inputs()
        self.mirrored_at_first = (
            augment.mirrored_at_first(images, derive_seed(seed, "flip"), self.device)
            if config.augment.flip
            else None
        )

    def _choose_inputs(self) -> None:
        """Train the network on images, or its head alone on what a frozen backbone makes of them."""
        features = self.features.features(self.model, self.config, self.data, self.precision, self.seed)
        self.on_features = features is not None
        self.inputs = features or self.data
        self.network: Any = self.model.head if self.on_features else self.model
        self.compiled: Any = None

    @property
    def compilable(self) -> bool:
        """Whether what trains is the network as it stays; stages that join one by one are waited for."""
        joined = self.config.fine_tune.unfreeze_over * self.task.max_epochs
        return not self.on_features and self.epoch >= joined

    def compile(self) -> str:
        """Train on with a compiled network if that is faster; returns what came of it, in a line.

        Validation and checkpoints see the network as before.
        """
        if self.unfreezing is not None:
            self.unfreezing.begin(self.epoch)
        self.model.train()
        shape = (self.task.channels, self.task.image_size, self.task.image_size)
        compiled = compile_network(
            self.model, [(size, *shape) for size in self.batch_sizes], self.device, self.precision
        )
        self.compiled = compiled.network
        return compiled.outcome

    @property
    def batch_sizes(self) -> list[int]:
        """One or two, the larger first."""
        images, steps = len(self.data.train.labels), self.steps_per_epoch
        return sorted({-(-images // steps), images // steps}, reverse=True)

    def _initialize_from_data(self) -> None:
        modules = [m for m in self.model.modules() if isinstance(m, InitializedFromData)]
        if modules:
            generator = torch.Generator().manual_seed(derive_seed(self.seed, "initialization"))
            part = self.data.train
            count = max(1, INITIALIZATION_PIXELS // (part.images.shape[1] * part.images.shape[2]))
            index = torch.randperm(len(part.labels), generator=generator)[:count]
            chosen = part.images[index.to(part.images.device)].to(self.device)
            images = augment.normalize(chosen, self.data.mean, self.data.std)
            for module in modules:
                module.initialize_from(images)

    def epochs(self) -> Iterator[EpochReport]:
        """Train to max_epochs, one report an epoch; stopping in between loses nothing before it."""
        while self.epoch < self.task.max_epochs:
            yield self.run_epoch()

    def run_epoch(self) -> EpochReport:
        """Train and validate one epoch. The device is waited for once after each of the two."""
        assert self.epoch < self.task.max_epochs, "the schedule has ended"
        start = time.perf_counter()
        train_loss, train_accuracy, rate = self._train_epoch()
        trained = time.perf_counter() - start
        self.epoch += 1
        scores = self._scores() if len(self.data.val.labels) else (None, None, None)
        val_loss, val_accuracy, val_macro_f1 = scores
        return EpochReport(
            epoch=self.epoch,
            train_loss=train_loss,
            train_accuracy=train_accuracy,
            val_loss=val_loss,
            val_accuracy=val_accuracy,
            val_macro_f1=val_macro_f1,
            learning_rate=rate,
            images_per_second=len(self.data.train.labels) / trained,
            seconds=(seconds := time.perf_counter() - start),
            validation_seconds=seconds - trained,
        )

    def _train_epoch(self) -> tuple[float, float, float]:
        """Mean loss, accuracy, and the last learning rate."""
        config, part = self.config, self.inputs.train
        # what is dropped and what is drawn for the images must not follow from each other
        _seed_all(derive_seed(self.seed, "dropout", self.epoch))
        epoch_seed = derive_seed(self.seed, "epoch", self.epoch)
        generator = torch.Generator(self.device).manual_seed(epoch_seed)
        host = np.random.default_rng(epoch_seed)
        order = torch.randperm(len(part.labels), generator=generator, device=self.device)

        if self.unfreezing is not None:
            self.unfreezing.begin(self.epoch)
        self.model.train()
        network = self.network if self.compiled is None else self.compiled
        loss_sum = torch.zeros((), device=self.device)
        hits = torch.zeros((), device=self.device, dtype=torch.int64)
        step, rate = self.epoch * self.steps_per_epoch, 0.0
        for raw in raw_batches(part, order.tensor_split(self.steps_per_epoch), self.device):
            rate = learning_rate(config.optimizer, step, self.steps)
            set_rate(self.optimizer, rate)
            images, labels = self._augmented(raw, generator), raw.labels
            share = augment.mixup_share(config.augment.mixup, host) if config.augment.mixup else 1.0
            if share < 1.0:
                partners = torch.randperm(len(labels), generator=generator, device=self.device)
                images = images.lerp(images[partners], 1.0 - share)

            with self._autocast():
                logits = network(images).float()
            loss = self._loss(logits, labels)
            if share < 1.0:
                loss = share * loss + (1.0 - share) * self._loss(logits, labels[partners])
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()

            step += 1
            if self.average is not None:
                self.average.update(step, epoch_ends=step % self.steps_per_epoch == 0)
            loss_sum += loss.detach() * len(labels)
            hits += (logits.detach().argmax(1) == labels).sum()
        total_loss, total_hits = torch.stack([loss_sum, hits.float()]).tolist()
        return total_loss / len(part.labels), total_hits / len(part.labels), rate

    def _augmented(self, raw: RawBatch, generator: torch.Generator) -> torch.Tensor:
        if self.on_features:
            return raw.images[raw.index]
        settings = self.config.augment
        mirrored = None
        if self.mirrored_at_first is not None:
            mirrored = self.mirrored_at_first[raw.numbers] ^ bool(self.epoch % 2)
        batch = augment.take_batch(
            raw.images, raw.index, mirrored=mirrored, crop=settings.crop, generator=generator
        )
        images = augment.normalize(batch, self.data.mean, self.data.std)
        return augment.cutout(images, settings.cutout, generator) if settings.cutout else images

    def _loss(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(logits, labels, label_smoothing=self.config.label_smoothing)

    def _autocast(self) -> torch.autocast:
        return autocast(self.device, self.precision)

    def _scores(self) -> tuple[float, float, float]:
        """Mean loss, accuracy and macro F1 on validation."""
        loss, confusion = self.validate()
        return loss, float(metrics.accuracy(confusion)), float(metrics.macro_f1(confusion))

    def validate(self) -> tuple[float, torch.Tensor]:
        """Mean loss and confusion matrix, int64 (classes, classes), of the scored weights on validation."""
        swap = self.average is not None and self.average.kind == "ema"
        if swap:
            assert self.average is not None
            self.average.swap()
        try:
            return self._evaluate(self.inputs.val)
        finally:
            if swap:
                assert self.average is not None
                self.average.swap()

    @torch.inference_mode()
    def _evaluate(self, part: DevicePart) -> tuple[float, torch.Tensor]:
        self.model.eval()
        classes = self.task.classes
        batch = min(EVALUATION_BATCH, self.config.model.evaluation_batch)
        confusion = torch.zeros(classes, classes, dtype=torch.int64, device=self.device)
        loss_sum = torch.zeros((), device=self.device)
        for images, labels in zip(part.images.split(batch), part.labels.split(batch), strict=True):
            inputs = copied_ahead(images, self.device)
            if not self.on_features:
                inputs = augment.normalize(inputs, self.data.mean, self.data.std)
            with self._autocast():
                logits = self.network(inputs).float()
            loss_sum += functional.cross_entropy(logits, labels, reduction="sum")
            metrics.add_to_confusion(confusion, labels, logits.argmax(1))
        return float(loss_sum) / len(part.labels), confusion.cpu()

    def scored_weights(self) -> dict[str, torch.Tensor]:
        """The weights that validation scored, on the CPU, each with memory of its own."""
        return scored_in(self.state(), self.config.averaging)

    def state(self) -> dict[str, Any]:
        """Everything needed to go on exactly; tensors (the live ones), numbers and strings only."""
        return {
            "epoch": self.epoch,
            "precision": self.precision,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": None if self.average is None else self.average.state(),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on from `state()` of the same configuration, data and seed."""
        self.epoch = state["epoch"]
        if self.precision != state["precision"]:
            self.precision = state["precision"]
            self._choose_inputs()
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            self.average.load(state["average"])


def scored_in(state: Mapping[str, Any], averaging: Averaging) -> dict[str, torch.Tensor]:
    """The weights that validation scored when `Training.state` gave this: on the CPU, copies."""
    weights = scored_weights(state["model"], averaging, state["average"])
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in weights.items()}


def _seed_all(seed: int) -> None:
    """Every generator that a network of a user's own may draw from."""
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)
