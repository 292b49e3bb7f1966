"""Numbers that describe a data set: channel statistics and a fingerprint."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import numpy.typing as npt

from trainables.data.dataset import Part

Channels = tuple[float, float, float]


def channel_statistics(images: npt.NDArray[np.uint8]) -> tuple[Channels, Channels]:
    """Mean and standard deviation of each channel of (images, height, width, 3), where 1.0 is white.

    Sums of integers, so the result is exact, and the same on every machine.
    """
    totals = np.zeros(images.shape[1:], dtype=np.uint64)
    squares = np.zeros(images.shape[1:], dtype=np.uint64)
    chunk = 256  # small enough for the processor's cache, and 256 * 255**2 fits uint32
    for start in range(0, len(images), chunk):
        values = images[start : start + chunk].astype(np.uint32)
        totals += values.sum(axis=0, dtype=np.uint32)
        squares += np.square(values, out=values).sum(axis=0, dtype=np.uint32)
    pixels = images.size // 3
    mean = totals.sum(axis=(0, 1)) / pixels
    variance = np.maximum(squares.sum(axis=(0, 1)) / pixels - mean**2, 0)
    return _unit(mean), _unit(np.sqrt(variance))


def fingerprint(class_names: tuple[str, ...], train: Part, val: Part) -> str:
    """16 hex digits of the content: names, images and labels, and which image is in which part."""
    digest = hashlib.sha256()
    shapes = (train.images.shape, val.images.shape)
    digest.update(json.dumps([class_names, shapes]).encode())
    for part in (train, val):
        digest.update(np.ascontiguousarray(part.images).data)
        digest.update(np.ascontiguousarray(part.labels, dtype="<i8").data)
    return digest.hexdigest()[:16]


def _unit(channels: npt.NDArray[np.float64]) -> Channels:
    red, green, blue = (channels / 255).tolist()
    return red, green, blue
