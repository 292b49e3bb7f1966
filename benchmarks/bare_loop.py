"""The loops that a user would write by hand: images in memory, and Ray Tune's tutorial image by image."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from trainables.config import AugmentConfig
from trainables.data import Dataset, Part

EVALUATION_BATCH = 500


class BareLoop:
    """As little as it takes to train: normalized images as one tensor, flips and shifts of whole batches."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        data: Dataset,
        batch: int,
        augment: AugmentConfig,
        *,
        device: torch.device,
        bf16: bool = False,
    ) -> None:
        self.model, self.optimizer, self.batch, self.augment = model, optimizer, batch, augment
        self.device, self.bf16 = device, bf16
        self.images, self.labels = self._tensors(data.train, data)
        self.val_images, self.val_labels = self._tensors(data.val, data)

    def _tensors(self, part: Part, data: Dataset) -> tuple[torch.Tensor, torch.Tensor]:
        images = torch.tensor(part.images).permute(0, 3, 1, 2).float() / 255
        mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (data.mean, data.std))
        normal = ((images - mean) / std).contiguous(memory_format=torch.channels_last)
        return normal.to(self.device), torch.tensor(part.labels).to(self.device)

    def _augmented(self, images: torch.Tensor) -> torch.Tensor:
        count, size, on = len(images), images.shape[2], self.device
        if self.augment.flip:
            mirrored = torch.rand(count, 1, 1, 1, device=on) < 0.5
            images = torch.where(mirrored, images.flip(3), images)
        if limit := self.augment.crop:
            padded = functional.pad(images, (limit,) * 4, "reflect").permute(0, 2, 3, 1)
            shift = torch.randint(2 * limit + 1, (2, count, 1), device=on) + torch.arange(size, device=on)
            index = torch.arange(count, device=on)[:, None, None]
            images = padded[index, shift[0][:, :, None], shift[1][:, None, :]].permute(0, 3, 1, 2)
        return images

    def _logits(self, images: torch.Tensor) -> torch.Tensor:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            logits: torch.Tensor = self.model(images)
        return logits.float()

    def epoch(self) -> float:
        """Train and validate once; returns the validation accuracy."""
        self.model.train()
        for index in torch.randperm(len(self.labels), device=self.device).split(self.batch):
            loss = functional.cross_entropy(
                self._logits(self._augmented(self.images[index])), self.labels[index]
            )
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
        self.model.eval()
        hits = torch.zeros((), dtype=torch.int64, device=self.device)
        with torch.inference_mode():
            for images, labels in zip(
                self.val_images.split(EVALUATION_BATCH), self.val_labels.split(EVALUATION_BATCH), strict=True
            ):
                hits += (self._logits(images).argmax(1) == labels).sum()
        return float(hits) / len(self.val_labels)


class TransformedImages(torch.utils.data.Dataset[tuple[torch.Tensor, int]]):
    """Images one by one, each transformed on its own, as torchvision's data sets do it."""

    def __init__(self, part: Part, data: Dataset, *, augment: bool) -> None:
        from torchvision import transforms

        steps: list[Any] = [transforms.ToPILImage()]
        if augment:
            steps += [
                transforms.RandomCrop(part.images.shape[1], padding=4),
                transforms.RandomHorizontalFlip(),
            ]
        steps += [transforms.ToTensor(), transforms.Normalize(data.mean, data.std)]
        self.part, self.transform = part, transforms.Compose(steps)

    def __len__(self) -> int:
        return len(self.part.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(self.part.images[index]), int(self.part.labels[index])


class ImageByImage:
    """The pipeline of Ray Tune's tutorial on CIFAR-10: a DataLoader over per-image transforms."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        data: Dataset,
        batch: int,
        *,
        device: torch.device,
        workers: int = 0,
        augment: bool = True,
    ) -> None:
        self.model, self.optimizer, self.device = model, optimizer, device
        self.train = torch.utils.data.DataLoader(
            TransformedImages(data.train, data, augment=augment), batch, shuffle=True, num_workers=workers
        )
        self.val = torch.utils.data.DataLoader(
            TransformedImages(data.val, data, augment=False), batch, num_workers=workers
        )

    def epoch(self) -> float:
        """Train and validate once; returns the validation accuracy."""
        self.model.train()
        for images, labels in self.train:
            self.optimizer.zero_grad()
            logits = self.model(images.to(self.device))
            functional.cross_entropy(logits, labels.to(self.device)).backward()
            self.optimizer.step()
        self.model.eval()
        hits, seen = 0, 0
        with torch.no_grad():
            for images, labels in self.val:
                logits = self.model(images.to(self.device))
                hits += int((logits.argmax(1) == labels.to(self.device)).sum())
                seen += len(labels)
        return hits / seen


def part_of(part: Part, count: int, seed: int = 0) -> Part:
    """`count` images of a part, drawn at random."""
    chosen = np.random.default_rng(seed).permutation(len(part))[:count]
    return Part(images=np.ascontiguousarray(part.images[chosen]), labels=part.labels[chosen])


def rounds(count: int, names: list[str]) -> Iterator[str]:
    """Names in turn, each round in another order, so that none is always measured first."""
    for number in range(count):
        yield from names[number % len(names) :] + names[: number % len(names)]
