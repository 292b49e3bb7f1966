"""A seeded split in which every class keeps its share."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.intp]


def stratified_split(labels: npt.NDArray[np.int64], fraction: float, seed: int) -> tuple[Indices, Indices]:
    """Indices of the images that stay, and of the share `fraction` (0 to 1) that is held out, both ascending.

    labels: (images,), every class from 0 to the largest at least twice. Both sides get at least one image of
    each class; apart from that, `fraction` of all images, rounded, is held out.
    The order of a class is drawn before its share is cut off, so a larger share contains a smaller one.
    """
    sizes = np.bincount(labels)
    assert sizes.min() >= 2
    held_out = np.zeros(len(labels), dtype=bool)
    for class_index, count in enumerate(_held_out_per_class(sizes, fraction)):
        order = np.random.default_rng((seed, class_index)).permutation(np.flatnonzero(labels == class_index))
        held_out[order[:count]] = True
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def _held_out_per_class(sizes: npt.NDArray[np.intp], fraction: float) -> npt.NDArray[np.intp]:
    # Rounding each class by itself would add up to a wrong total: hand out the remainder where it is largest.
    exact = sizes * fraction
    counts = np.clip(np.floor(exact).astype(np.intp), 1, sizes - 1)
    total = int(np.clip(round(int(sizes.sum()) * fraction), len(sizes), (sizes - 1).sum()))
    while counts.sum() < total:
        counts[np.where(counts < sizes - 1, exact - counts, -np.inf).argmax()] += 1
    while counts.sum() > total:
        counts[np.where(counts > 1, counts - exact, -np.inf).argmax()] -= 1
    return np.asarray(counts)
