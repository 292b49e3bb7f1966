"""1,797 handwritten digits of 8x8 pixels (Alpaydin & Kaynak, 1998), as scikit-learn ships them."""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path

import numpy as np
import numpy.typing as npt

from trainables.data.dataset import Part, PartName
from trainables.data.images import resize_all
from trainables.data.split import stratified_split

DEFAULT_SIZE = 32
TEST_FRACTION = 0.2
# Fixed: if the test part moved with a search's seed, the winner of one search would have been trained on what
# another one is tested on.
TEST_SEED = 1797


class Digits:
    """Ten classes, grey images enlarged smoothly to (size, size, 3); a stratified fifth is the test part."""

    class_names = tuple("0123456789")

    def __init__(self, *, image_size: int | None = None) -> None:
        self._size = image_size or DEFAULT_SIZE

    def part(self, name: PartName) -> Part | None:
        """The train or the test part; there is no val part."""
        if name == "val":
            return None
        images, labels = _read()
        train, test = stratified_split(labels, TEST_FRACTION, TEST_SEED)
        chosen = train if name == "train" else test
        return Part(images=resize_all(images[chosen], self._size), labels=labels[chosen])


@functools.cache
def _read() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    # Importing scikit-learn takes seconds, reading the file that it ships does not.
    package = importlib.util.find_spec("sklearn")
    folders = list(package.submodule_search_locations or []) if package else []
    table = Path(folders[0]) / "datasets/data/digits.csv.gz" if folders else None
    if table and table.is_file():
        rows = np.loadtxt(table, delimiter=",")
    else:
        from sklearn.datasets import load_digits

        bunch = load_digits()
        rows = np.column_stack([bunch.data, bunch.target])
    grey = np.rint(rows[:, :64] * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)
    return np.repeat(grey, 3, axis=3), rows[:, 64].astype(np.int64)
