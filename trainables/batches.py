"""Batches of raw images on the device that trains, wherever the data set is kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

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
    numbers: torch.Tensor
    """int64 (batch,), on the device: which images of the whole part they are."""


def raw_batches(part: DevicePart, order: Sequence[torch.Tensor], device: torch.device) -> Iterator[RawBatch]:
    """A batch for each index of `order`, int64 (batch,) each, on the device.

    Images that are kept on the host are gathered and copied while the device still computes the step before.
    """
    if part.resident:
        for index in order:
            yield RawBatch(part.images, index, part.labels[index], index)
        return
    on_host = [index.cpu() for index in order]  # waits for the device, once
    for index, chosen in zip(order, on_host, strict=True):
        images = copied_ahead(part.images[chosen], device)
        yield RawBatch(images, torch.arange(len(images), device=device), part.labels[index], index)


def copied_ahead(batch: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A batch on the device, copied beside what the device computes; one that is there stays as it is."""
    if device.type != "cuda" or batch.is_cuda:
        return batch.to(device)
    side = _side_stream(device)
    with torch.cuda.stream(side):
        # pinned, or the copy would wait; torch keeps that memory until the copy is done
        images = batch.pin_memory().to(device, non_blocking=True)
    now = torch.cuda.current_stream(device)
    now.wait_stream(side)
    images.record_stream(now)
    return images


@cache
def _side_stream(device: torch.device) -> torch.cuda.Stream:
    # one for all epochs: what torch has allocated on a stream is used again on that stream alone
    return torch.cuda.Stream(device)
