"""Features of a frozen backbone: computed once for all epochs, and for all trials that share them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import replace

import torch

from trainables.augment import normalize
from trainables.batches import copied_ahead
from trainables.config import AugmentConfig, TrialConfig
from trainables.device import DeviceData, DevicePart
from trainables.models.pretrained import PretrainedConfig
from trainables.models.pretrained_network import PretrainedNetwork
from trainables.precision import Precision, autocast

MOST_BYTES = 512 * 2**20
"""Memory for features, all kept ones together: 100,000 images of the widest backbone."""


class FeatureCache:
    """Features of one data set by what made them; those not used for longest go first."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self.most_bytes = most_bytes
        self._kept: OrderedDict[Hashable, DeviceData] = OrderedDict()

    def features(
        self, model: torch.nn.Module, config: TrialConfig, data: DeviceData, precision: Precision, seed: int
    ) -> DeviceData | None:
        """`data` with features, float32 (N, width), in place of images; always the same `data` of one cache.

        None where they are not the same in every epoch, or would take more memory than the cache may.
        """
        if not can_be_reused(config):
            return None
        assert isinstance(config.model, PretrainedConfig)
        assert isinstance(model, PretrainedNetwork)
        key = _key(config.model, precision, seed)
        if key not in self._kept:
            images = len(data.train.labels) + len(data.val.labels)
            if 4 * images * model.width > self.most_bytes:
                return None
            parts = [
                _part(model, part, data, precision, config.model.evaluation_batch)
                for part in (data.train, data.val)
            ]
            self._kept[key] = replace(data, train=parts[0], val=parts[1])
        self._kept.move_to_end(key)
        while sum(_bytes(kept) for kept in self._kept.values()) > self.most_bytes:
            self._kept.popitem(last=False)
        return self._kept[key]


def can_be_reused(config: TrialConfig) -> bool:
    """Whether an image has the same features in every epoch: a frozen backbone, and no augmentation."""
    model = config.model
    frozen = isinstance(model, PretrainedConfig) and model.unfrozen == "head"
    return frozen and config.augment == AugmentConfig()


def _key(model: PretrainedConfig, precision: Precision, seed: int) -> Hashable:
    # what the head is like does not change what it sees; random values follow from the seed
    backbone = replace(model, dropout=0.0, head_width=0, freeze_norms=False)
    return backbone, precision, seed if model.weights == "none" else None


@torch.no_grad()
def _part(
    model: PretrainedNetwork, part: DevicePart, data: DeviceData, precision: Precision, batch: int
) -> DevicePart:
    model.eval()
    features = []
    for images in part.images.split(batch):
        normal = normalize(copied_ahead(images, data.device), data.mean, data.std)
        with autocast(data.device, precision):
            features.append(model.features(normal).float())
    return DevicePart(torch.cat(features), part.labels)


def _bytes(data: DeviceData) -> int:
    return data.train.images.nbytes + data.val.images.nbytes
