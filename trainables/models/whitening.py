"""A first layer that hands on decorrelated patches of the image."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

CHUNK = 256
"""Images whose patches are held in memory at once."""
EPSILON = 5e-4
"""Added to each variance, so that directions in which images hardly vary are not blown up into noise."""


class PatchWhitening(nn.Module):
    """Frozen filters that whiten patches, each with its negative, and a bias that is trained.

    (batch, channels, height, width) to (batch, 2 * channels * patch**2, height', width') without padding.

    Neighbouring pixels are nearly equal, so a network spends its first steps on taking them apart; the
    principal components of the patches do so from the start (Page, "How to train your ResNet", 2018).
    A rectifier discards half of what a filter says, hence the negatives.

    Until `initialize_from` is called, the filters pick single pixels.
    """

    weight: torch.Tensor

    def __init__(self, channels: int, patch: int = 2, stride: int = 1) -> None:
        super().__init__()
        self.patch = patch
        self.stride = stride
        values = channels * patch**2
        # not torch.eye: on the meta device it makes torch load its compiler, for seconds
        pixels = torch.zeros(2, values, values)
        pixels[0].fill_diagonal_(1.0)
        pixels[1].fill_diagonal_(-1.0)
        self.register_buffer("weight", pixels.reshape(2 * values, channels, patch, patch))
        self.bias = nn.Parameter(torch.zeros(2 * values))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Whitened patches, one channel a filter."""
        return functional.conv2d(images, self.weight, self.bias, self.stride)

    @torch.no_grad()
    def initialize_from(self, images: torch.Tensor) -> None:
        """Set the filters from images (images, channels, height, width), as the network will see them."""
        variances, directions = torch.linalg.eigh(self._patch_covariance(images))
        filters = (directions / (variances.clamp(min=0) + EPSILON).sqrt()).T.reshape(
            -1, *self.weight.shape[1:]
        )
        self.weight.copy_(torch.cat([filters, -filters]))

    def _patch_covariance(self, images: torch.Tensor) -> torch.Tensor:
        values = self.weight[0].numel()
        count = 0
        total = torch.zeros(values, dtype=torch.float64, device=images.device)
        products = torch.zeros(values, values, dtype=torch.float64, device=images.device)
        for start in range(0, len(images), CHUNK):
            chunk = images[start : start + CHUNK].float()
            columns = functional.unfold(chunk, self.patch, stride=self.stride)
            patches = columns.transpose(1, 2).reshape(-1, values)
            count += len(patches)
            total += patches.sum(0)
            products += patches.T @ patches
        mean = total / count
        return products / count - torch.outer(mean, mean)

    def extra_repr(self) -> str:
        """What `print(network)` shows of this layer."""
        filters, channels = self.weight.shape[:2]
        return f"{channels}, {filters}, patch={self.patch}, stride={self.stride}"
