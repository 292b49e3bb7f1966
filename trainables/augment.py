"""Augmentation of whole batches, on the device that trains, each image with draws of its own."""

from __future__ import annotations

import numpy as np
import torch


def take_batch(
    images: torch.Tensor,
    index: torch.Tensor,
    *,
    mirrored: torch.Tensor | None = None,
    crop: int = 0,
    generator: torch.Generator,
) -> torch.Tensor:
    """Images by index, shifted by up to `crop` pixels and mirrored: selection, crop and flip are one gather.

    `images` is uint8 (N, H, W, C), `index` int64 (batch,), `mirrored` bool (batch,); returns uint8
    (batch, H, W, C). What a shift brings in at a border is the image reflected there.
    """
    if mirrored is None and not crop:
        return images[index]
    height, width = images.shape[1:3]
    rows = _shifted(height, len(index), crop, generator)
    columns = _shifted(width, len(index), crop, generator)
    if mirrored is not None:
        columns = torch.where(mirrored[:, None], width - 1 - columns, columns)
    return images[index[:, None, None], rows[:, :, None], columns[:, None, :]]


def mirrored_at_first(images: int, seed: int, device: torch.device) -> torch.Tensor:
    """Which images are mirrored in the first epoch, in the third and so on, the others in those between:
    bool (images,), about half of them.

    Alternating flip (Jordan, 2024, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU"): of every two epochs
    in a row, each image is seen once as it is and once mirrored; drawn anew, one in two would be seen the
    same way twice.
    """
    generator = torch.Generator(device).manual_seed(seed)
    return torch.rand(images, generator=generator, device=device) < 0.5


def _shifted(size: int, batch: int, limit: int, generator: torch.Generator) -> torch.Tensor:
    """Pixel positions (batch, size) of a row or column after a random shift of up to `limit` pixels."""
    shift = torch.randint(-limit, limit + 1, (batch, 1), generator=generator, device=generator.device)
    position = torch.arange(size, device=generator.device) + shift
    if size == 1:
        return torch.zeros_like(position)
    # reflection without repeating the border pixel has this period, and holds for any shift
    period = 2 * (size - 1)
    position = position.remainder(period)
    return torch.where(position < size, position, period - position)


def normalize(batch: torch.Tensor, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """uint8 (batch, H, W, C) to float32 (batch, C, H, W) in channels_last memory, without moving a pixel.

    `mean` and `std` are (C,), in units of 0 to 255.
    """
    return ((batch - mean) / std).permute(0, 3, 1, 2)


def cutout(batch: torch.Tensor, side: int, generator: torch.Generator) -> torch.Tensor:
    """Set a square of `side` pixels, centred anywhere in the image, to zero, the mean colour.

    `batch` is normalized float (batch, C, H, W). DeVries & Taylor (2017), "Improved Regularization of
    Convolutional Neural Networks with Cutout": the square may reach over the border.
    """
    count, _, height, width = batch.shape
    top = torch.randint(height, (count, 1), generator=generator, device=batch.device) - side // 2
    left = torch.randint(width, (count, 1), generator=generator, device=batch.device) - side // 2
    row = torch.arange(height, device=batch.device)
    column = torch.arange(width, device=batch.device)
    in_rows = (row >= top) & (row < top + side)
    in_columns = (column >= left) & (column < left + side)
    square = in_rows[:, :, None] & in_columns[:, None, :]
    # a product keeps channels_last; masked_fill with a mask for all channels does not
    return batch * ~square[:, None]


def mixup_share(alpha: float, random: np.random.Generator) -> float:
    """The share of the first image, drawn from Beta(alpha, alpha) and at least one half.

    Zhang et al. (2018), "mixup: Beyond Empirical Risk Minimization". A share below one half is the same
    pair seen from its other image. Drawn on the host, so that nothing waits for a device.
    """
    share = float(random.beta(alpha, alpha))
    return max(share, 1.0 - share)
