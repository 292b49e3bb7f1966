"""Batches of raw images on the device that trains, wherever the data set is kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from trainables.device import DevicePart


@dataclass(frozen=True)
class RawBatch:
    """Images of one step, still to be selected: a selection and a crop are one gather."""

    images: torch.Tensor
    """uint8 (n, H, W, C), on the device."""
    index: torch.Tensor
    """int64 (batch,): which of them."""
    labels: torch.Tensor
    """int64 (batch,), on the device."""


def raw_batches(part: DevicePart, order: Sequence[torch.Tensor], device: torch.device) -> Iterator[RawBatch]:
    """A batch for each index of `order`, int64 (batch,) each, on the device.

    Images that are kept on the host are gathered and copied while the device still computes the step before.
    """
    if part.resident:
        for index in order:
            yield RawBatch(part.images, index, part.labels[index])
        return
    on_host = [index.cpu() for index in order]  # waits for the device, once
    side = torch.cuda.Stream(device) if device.type == "cuda" else None
    for index, chosen in zip(order, on_host, strict=True):
        images = _copied(part.images[chosen], device, side)
        yield RawBatch(images, torch.arange(len(images), device=device), part.labels[index])


def _copied(batch: torch.Tensor, device: torch.device, side: torch.cuda.Stream | None) -> torch.Tensor:
    if side is None:
        return batch.to(device)
    with torch.cuda.stream(side):
        # pinned, or the copy would wait; torch keeps that memory until the copy is done
        images = batch.pin_memory().to(device, non_blocking=True)
    now = torch.cuda.current_stream(device)
    now.wait_stream(side)
    images.record_stream(now)
    return images
