"""What a data set is once it is in memory, and the small types that everything here shares."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

PartName = Literal["train", "val", "test"]


class DataError(ValueError):
    """Data that cannot be used. One line: the value or file, what was expected, and the way out."""


class ProgressBar(Protocol):
    """One piece of work on the screen."""

    def advance(self, amount: int) -> None:
        """`amount` more bytes are done."""


class ProgressFactory(Protocol):
    """Opens a progress bar, and closes it at the end of the `with` block."""

    def __call__(self, description: str, total: int) -> AbstractContextManager[ProgressBar]:
        """A bar for work of `total` bytes (0: not known)."""


class _NoBar:
    def advance(self, amount: int) -> None:
        pass


@contextmanager
def silent(description: str, total: int) -> Iterator[ProgressBar]:
    """The progress that nobody sees."""
    yield _NoBar()


# Arrays have no single truth value, so two parts or data sets are equal only if they are the same object.
@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """Images and their labels, in an order that is always the same, sorted by class where the source is."""

    images: npt.NDArray[np.uint8]
    """uint8, (images, height, width, 3), RGB, C-contiguous."""
    labels: npt.NDArray[np.int64]
    """int64, (images,): indices into the class names."""

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """What trials see: the training and the validation part, never the test part."""

    name: str
    """`cifar10`, `digits`, or the absolute path of a folder or an archive."""
    note: str = ""
    """Empty, or one line that a reader has to see, as when digits stand in for CIFAR-10."""
    class_names: tuple[str, ...]
    """The name of each label; for a folder or an archive, sorted."""
    train: Part
    val: Part
    mean: tuple[float, float, float]
    """Mean of each channel over all pixels of the training part, where 1.0 is white."""
    std: tuple[float, float, float]
    """Standard deviation of each channel over all pixels of the training part, where 1.0 is white."""
    fingerprint: str
    """16 hex digits that two data sets share if their class names, images, labels and split are the same."""


def merged(dataset: Dataset) -> Dataset:
    """A data set to train a final model on: training and validation images together, and none to validate.

    Mean and deviation stay those of the training part, so that networks see the same colours as before.
    """
    import numpy as np

    train, val = dataset.train, dataset.val
    return replace(
        dataset,
        train=Part(
            images=np.concatenate([train.images, val.images]),
            labels=np.concatenate([train.labels, val.labels]),
        ),
        val=Part(images=val.images[:0], labels=val.labels[:0]),
        fingerprint=f"{dataset.fingerprint}+val",
    )
