"""From a name to arrays: find the data, split it, measure it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from trainables.data.dataset import DataError, Dataset, Part, PartName, ProgressFactory, silent
from trainables.data.names import check_name, default_data_dir, resolve

if TYPE_CHECKING:
    from trainables.data.cifar10 import Source


class Parts(Protocol):
    """A data set whose parts are read one by one, when they are asked for."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """The name of each label."""

    def part(self, name: PartName) -> Part | None:
        """A part as it came (it may be a read-only view of a file), or None if there is none."""


class _Found(NamedTuple):
    name: str
    parts: Parts
    note: str = ""


def load_dataset(
    name: str,
    *,
    data_dir: Path | None = None,
    image_size: int | None = None,
    val_fraction: float = 0.1,
    seed: int = 0,
    progress: ProgressFactory | None = None,
    cifar10_source: Source | None = None,
) -> Dataset:
    """The training and validation part of a data set, downloaded and decoded where that is still to be done.

    name: `cifar10` (Krizhevsky, 2009), `digits` (scikit-learn's), `auto` (CIFAR-10, or digits and a note
        where it can be neither found nor downloaded), or a folder or archive with train/<class>/<image>.
    data_dir: keeps downloads and decoded images; default `default_data_dir()`.
    image_size: height and width in pixels. Default: 32 for CIFAR-10 and digits; for images, their shorter
        side if all share one of at most 64 pixels, otherwise 64. The longer side is cropped at both ends.
    val_fraction: share of the training images that become validation, stratified, at least one a class;
        the split depends on this, on `seed` and on the labels alone. A val/ folder takes its place.
    cifar10_source: where CIFAR-10 comes from; default the University of Toronto.

    Raises DataError for everything that a user can put right.
    """
    check_name(name, data_dir)
    _check_values(image_size, seed)
    if not (math.isfinite(val_fraction) and 0 < val_fraction < 1):
        raise DataError(f"val_fraction must lie between 0 and 1, but is {val_fraction}")
    import numpy as np

    from trainables.data.measure import channel_statistics, fingerprint
    from trainables.data.split import stratified_split

    found = _find(name, data_dir, image_size, progress or silent, cifar10_source)
    class_names = found.parts.class_names
    train, val = found.parts.part("train"), found.parts.part("val")
    assert train is not None
    if val is None:
        _check_enough(found, train)
        kept, held_out = stratified_split(train.labels, val_fraction, seed)
        # a new array each, so that nothing depends on a file of the cache that someone may delete
        val = Part(images=train.images[held_out], labels=train.labels[held_out])
        train = Part(images=train.images[kept], labels=train.labels[kept])
    else:
        train = Part(images=np.array(train.images), labels=np.array(train.labels))
        val = Part(images=np.array(val.images), labels=np.array(val.labels))
    mean, std = channel_statistics(train.images)
    return Dataset(
        name=found.name,
        note=found.note,
        class_names=class_names,
        train=train,
        val=val,
        mean=mean,
        std=std,
        fingerprint=fingerprint(class_names, train, val),
    )


def load_test(
    name: str,
    *,
    data_dir: Path | None = None,
    image_size: int | None = None,
    seed: int = 0,
    progress: ProgressFactory | None = None,
    cifar10_source: Source | None = None,
) -> Part | None:
    """The test part, for the final evaluation only; None if the data set has none.

    It is the same for every `seed`, so that no search ever trains on an image that another one is tested on.
    Pass `Dataset.name`: `auto` is refused, because it may mean another data set than it did for the search.
    Raises DataError as `load_dataset` does.
    """
    check_name(name, data_dir)
    _check_values(image_size, seed)
    if name == "auto":
        raise DataError(
            "'auto' names no test part; pass the name of the data set that was loaded (Dataset.name)"
        )
    import numpy as np

    test = _find(name, data_dir, image_size, progress or silent, cifar10_source).parts.part("test")
    return test and Part(images=np.array(test.images), labels=np.array(test.labels))


def _find(
    name: str,
    data_dir: Path | None,
    image_size: int | None,
    progress: ProgressFactory,
    source: Source | None,
) -> _Found:
    from trainables.data import cifar10, decode, digits
    from trainables.data.download import DownloadError

    folder = (data_dir or default_data_dir()).expanduser().resolve()
    if name == "digits":
        return _Found("digits", digits.Digits(image_size=image_size))
    if name not in ("auto", "cifar10"):
        path = resolve(name)
        return _Found(str(path), decode.open_images(path, folder, image_size, progress))
    try:
        return _Found(
            "cifar10", cifar10.open_cifar10(folder, image_size, progress, source or cifar10.TORONTO)
        )
    except DownloadError as error:
        if name == "cifar10":
            raise
        return _Found("digits", digits.Digits(image_size=image_size), f"digits, not CIFAR-10: {error}")


def _check_enough(found: _Found, train: Part) -> None:
    import numpy as np

    for class_name, count in zip(found.parts.class_names, np.bincount(train.labels), strict=True):
        if count < 2:
            raise DataError(
                f"{found.name}: class {class_name} has {count} training image; at least 2 are needed, "
                "one of them for validation: add images, or a val/ folder"
            )


def _check_values(image_size: int | None, seed: int) -> None:
    if image_size is not None and image_size < 1:
        raise DataError(f"image_size must be at least 1 pixel, but is {image_size}")
    if seed < 0:
        raise DataError(f"seed must be at least 0, but is {seed}")
