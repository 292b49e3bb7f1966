"""A network of torchvision that begins with pretrained weights, with a new head for the classes of a task.

Nothing here imports torch before a network is built: a space reads this file on the way to `--help`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from trainables.config import ModelConfig, Task, require, require_choice

if TYPE_CHECKING:
    from trainables.models.pretrained_network import PretrainedNetwork

Architecture = Literal["resnet18", "mobilenet_v2", "mobilenet_v3_large", "densenet121"]
Unfrozen = Literal["head", "last", "last_two", "all"]
Stem = Literal["imagenet", "small"]

ARCHITECTURES: tuple[Architecture, ...] = get_args(Architecture)
STAGES = 5
"""Parts before the head that are frozen or trained as one, in every architecture."""
TRAINED_STAGES: dict[Unfrozen, int] = {"head": 0, "last": 1, "last_two": 2, "all": STAGES}
SMALLEST, LARGEST = 32, 224
"""Pixels: these networks halve an image five times, and were trained on 224."""


@dataclass(frozen=True, kw_only=True)
class PretrainedConfig(ModelConfig):
    """A backbone from torchvision, then dropout, a hidden layer where one is asked for, and a linear layer.

    Images come standardized by their own data set, to mean 0 and deviation 1 a channel, which is what the
    backbone saw of ImageNet. They are resized in batches, where the network is, after augmentation.
    """

    architecture: Architecture
    """resnet18 (He et al., 2016), mobilenet_v2 (Sandler et al., 2018), mobilenet_v3_large (Howard et al.,
    2019) or densenet121 (Huang et al., 2017)."""
    weights: str = "imagenet"
    """What the backbone begins with: none (random values), imagenet, or the hash of a file of weights."""
    unfrozen: Unfrozen = "all"
    """What is trained besides the head: nothing, the last stage, the last two, or all."""
    freeze_norms: bool = False
    """Keep the batch-norm statistics of the pretraining in trained stages too; frozen ones always do."""
    input_size: int = 64
    """Height and width in pixels that the backbone sees, 32 to 224."""
    stem: Stem = "imagenet"
    """small leaves out the first two halvings of the map, for small images; the weights are the same."""
    dropout: float = 0.0
    """Share of features dropped before the head."""
    head_width: int = 0
    """Width of a hidden layer in the head; 0: a plain linear head."""

    def __post_init__(self) -> None:
        require_choice("architecture", self.architecture, Architecture)
        require_choice("unfrozen", self.unfrozen, Unfrozen)
        require_choice("stem", self.stem, Stem)
        require(bool(self.weights), "weights must be none, imagenet or the hash of a file, but are ''")
        require(
            SMALLEST <= self.input_size <= LARGEST,
            f"input_size must be {SMALLEST} to {LARGEST} pixels, but is {self.input_size}",
        )
        require(0 <= self.dropout < 1, f"dropout must be a share in [0, 1), but is {self.dropout}")
        require(self.head_width >= 0, f"head_width must be at least 0 units, but is {self.head_width}")

    @property
    def evaluation_batch(self) -> int:
        """As many images as have maps of about the size of 500 of 64 pixels."""
        side = self.input_size * (4 if self.stem == "small" else 1)
        return min(super().evaluation_batch, max(1, 500 * 64**2 // side**2))

    def build(self, task: Task) -> PretrainedNetwork:
        """The network with random values; `trainables.weights.initialize` gives the backbone its weights."""
        from trainables.models.pretrained_network import PretrainedNetwork

        require(
            task.channels == 3,
            f"{self.architecture} takes images of 3 channels, but these have {task.channels}",
        )
        return PretrainedNetwork(self, task)
