"""A convolutional network trained from scratch: its layers as plain values, and the map sizes they give.

Nothing here imports torch before a network is built: a space reads this file on the way to `--help`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from trainables.config import ModelConfig, Task, require, require_choice

if TYPE_CHECKING:
    from torch import nn

Padding = Literal["same", "valid"]
Norm = Literal["none", "batch"]
Activation = Literal["relu", "gelu", "silu"]
Downsample = Literal["max", "avg", "stride"]
DownsampleAt = Literal["first", "last"]
Head = Literal["flatten", "avg", "max"]

FLATTEN_SIDE = 5
"""Pixels: a larger map is average-pooled before it is flattened, or one layer would outweigh all others."""


@dataclass(frozen=True, kw_only=True)
class CnnConfig(ModelConfig):
    """Stem, stages that each halve the map, head. After each convolution come its norm and its activation."""

    widths: tuple[tuple[int, ...], ...]
    """Output channels of every convolution, stage by stage: ((32,), (64, 128)) is one, then two."""
    kernel: int = 3
    """Side of every convolution but the stem's, in pixels, odd."""
    padding: Padding = "same"
    """same keeps the size of a map; valid cuts `kernel - 1` pixels from it."""
    norm: Norm = "batch"
    """Batch normalization (Ioffe & Szegedy, 2015) between convolution and activation, or none."""
    activation: Activation = "relu"
    """relu, gelu (Hendrycks & Gimpel, 2016) or silu (Elfwing et al., 2018)."""
    downsample: Downsample = "max"
    """How a stage halves its map: 2x2 max or average pooling, or a convolution of stride 2."""
    downsample_at: DownsampleAt = "last"
    """Where: in the stage's first convolution, before its norm, or after everything else in the stage."""
    residual: bool = False
    """Add what enters a stage's second convolution to what leaves its last (He et al., 2016)."""
    whitening: bool = False
    """Start with frozen filters that whiten small patches (Page, 2018; see `whitening.py`)."""
    input_stride: int = 1
    """Pixels from one patch that the stem reads to the next: above 1, it shrinks large images at once."""
    head: Head = "flatten"
    """What is taken from the last map: all (pooled to `FLATTEN_SIDE`), or each channel's mean or maximum."""
    dense: int = 0
    """Width of a dense layer before the last one; 0: none."""
    logit_scale: float = 1.0
    """Logits are multiplied by this: below 1 it slows the last layer and softens early predictions."""
    block_dropout: float = 0.0
    """Share of values dropped after each stage (Srivastava et al., 2014)."""
    head_dropout: float = 0.0
    """Share of values dropped before the last layer."""
    mirror: bool = False
    """Outside training, give the mean of an image's logits and its mirror image's: better for a network that
    was trained on both (as in Jordan, 2024), in twice the time."""

    def __post_init__(self) -> None:
        require(
            len(self.widths) > 0 and all(stage and min(stage) >= 1 for stage in self.widths),
            f"widths must name at least one stage, and channels of at least 1 in each, but are {self.widths}",
        )
        require(
            self.kernel >= 1 and self.kernel % 2 == 1,
            f"kernel must be odd and positive, but is {self.kernel}",
        )
        require_choice("padding", self.padding, Padding)
        require_choice("norm", self.norm, Norm)
        require_choice("activation", self.activation, Activation)
        require_choice("downsample", self.downsample, Downsample)
        require_choice("downsample_at", self.downsample_at, DownsampleAt)
        require_choice("head", self.head, Head)
        require(
            self.downsample != "stride" or self.downsample_at == "first",
            f"a stage strides in its first convolution, but downsample_at is {self.downsample_at!r}",
        )
        require(
            not self.residual
            or (self.padding == "same" and all(len(set(stage)) == 1 for stage in self.widths)),
            f"residual needs padding same and one width within a stage, "
            f"but padding is {self.padding!r} and widths are {self.widths}",
        )
        require(self.input_stride >= 1, f"input_stride must be at least 1 pixel, but is {self.input_stride}")
        require(self.dense >= 0, f"dense must be at least 0 units, but is {self.dense}")
        require(
            math.isfinite(self.logit_scale) and self.logit_scale > 0,
            f"logit_scale must be a positive number, but is {self.logit_scale}",
        )
        for name in ("block_dropout", "head_dropout"):
            share = getattr(self, name)
            require(0 <= share < 1, f"{name} must be a share in [0, 1), but is {share}")

    @property
    def patch(self) -> int:
        """Side in pixels of the patches that the stem reads; 1 where there is no stem."""
        return max(2, self.input_stride) if self.whitening else self.input_stride

    def map_size(self, image_size: int) -> int:
        """Side in pixels of the map that reaches the head.

        Raises ValueError where an image of `image_size` pixels is too small for these layers.
        """
        size = (image_size - self.patch) // self.input_stride + 1
        margin = self.kernel - 1 if self.padding == "valid" else 0
        for stage in self.widths:
            for index in range(len(stage)):
                size -= margin
                if index == 0 and self.downsample == "stride":
                    size = (size + 1) // 2
                elif index == (0 if self.downsample_at == "first" else len(stage) - 1):
                    size //= 2
                require(size >= 1, f"images of {image_size} pixels are too small for {self}")
        return size

    def in_training(self) -> CnnConfig:
        """Without the mirror image's pass."""
        return replace(self, mirror=False)

    def build(self, task: Task) -> nn.Module:
        """The network: an `nn.Sequential` of stem (if any), stage1, stage2, ..., head."""
        from trainables.models.cnn_network import build_cnn

        return build_cnn(self, task)
