"""CIFAR-10 (Krizhevsky, 2009): 60,000 colour images of 32x32 pixels, 10,000 of them for testing."""

from __future__ import annotations

import hashlib
import io
import pickle
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trainables.data import cache
from trainables.data.dataset import DataError, ProgressFactory
from trainables.data.download import download
from trainables.data.images import resize_all

SIZE = 32
_FOLDER = "cifar-10-batches-py"
_VALUES = 3 * SIZE * SIZE


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where the archive comes from, and the MD5 sums that it and the files in it have."""

    url: str
    md5: str
    train: tuple[tuple[str, str], ...]
    """File name and MD5 sum of each training batch."""
    test: tuple[tuple[str, str], ...]
    """File name and MD5 sum of each test batch."""
    names: tuple[str, str]
    """File name and MD5 sum of the file with the class names."""

    @property
    def archive(self) -> str:
        """File name of the archive."""
        return self.url.rpartition("/")[2]

    @property
    def sums(self) -> dict[str, str]:
        """The MD5 sum of each file."""
        return dict((*self.train, *self.test, self.names))


TORONTO = Source(
    url="https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
    md5="c58f30108f718f92721af3b95e74349a",
    train=(
        ("data_batch_1", "c99cafc152244af753f735de768cd75f"),
        ("data_batch_2", "d4bba439e000b95fd0a9bffe97cbabec"),
        ("data_batch_3", "54ebc095f3ab1f0389bbae665268c751"),
        ("data_batch_4", "634d18415352ddfa80567beed471001a"),
        ("data_batch_5", "482c414d41f54cd18b22e5b47cb7c3cb"),
    ),
    test=(("test_batch", "40351d587109b95175f43aff81a1287e"),),
    names=("batches.meta", "5ff9c542aee3614f3951f8cda6e48888"),
)
"""The sums are those that torchvision checks, too."""


def open_cifar10(
    data_dir: Path, image_size: int | None, progress: ProgressFactory, source: Source = TORONTO
) -> cache.Stored:
    """CIFAR-10, from the archive or from torchvision's unpacked folder in `data_dir`, or downloaded.

    image_size: in pixels; default 32. Decoded once, then read from the cache in `data_dir`.
    Raises DownloadError where it is missing and cannot be had, DataError for a damaged file.
    """
    size = image_size or SIZE
    name = cache.key(f"cifar10-{source.md5[:16]}", size)
    known = cache.stored(data_dir, name)
    if known:
        return known
    files = _files(data_dir, progress, source)
    return cache.store(data_dir, name, lambda folder: _write(folder, files, size, source))


def _files(data_dir: Path, progress: ProgressFactory, source: Source) -> dict[str, bytes]:
    folder, archive = data_dir / _FOLDER, data_dir / source.archive
    if all((folder / name).is_file() for name in source.sums):
        files = {name: (folder / name).read_bytes() for name in source.sums}
        place = folder
    else:
        if not archive.is_file():
            download(source.url, source.md5, archive, progress)
        files = dict(_unpack(archive, source))
        place = archive
    for name, expected in source.sums.items():
        found = hashlib.md5(files.get(name, b""), usedforsecurity=False).hexdigest()
        if found != expected:
            raise DataError(f"{name} of {place} has MD5 {found}, expected {expected}; delete {place}")
    return files


def _unpack(archive: Path, source: Source) -> Iterator[tuple[str, bytes]]:
    with archive.open("rb") as file:
        found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if found != source.md5:
        raise DataError(f"{archive} has MD5 {found}, expected {source.md5}; delete it to download it again")
    with tarfile.open(archive) as tar:
        for member in tar:
            file_name = member.name.rpartition("/")[2]
            content = tar.extractfile(member) if file_name in source.sums else None
            if content:
                yield file_name, content.read()


def _write(folder: Path, files: dict[str, bytes], size: int, source: Source) -> cache.Manifest:
    class_names = tuple(str(name) for name in _load(files[source.names[0]])["label_names"])
    for part, batches in (("train", source.train), ("test", source.test)):
        contents = [_load(files[name]) for name, _ in batches]
        pixels = np.concatenate([batch["data"] for batch in contents])
        labels = np.concatenate([np.asarray(batch["labels"], dtype=np.int64) for batch in contents])
        assert pixels.dtype == np.uint8
        assert pixels.shape == (len(labels), _VALUES)
        images = np.ascontiguousarray(pixels.reshape(-1, 3, SIZE, SIZE).transpose(0, 2, 3, 1))
        np.save(folder / f"{part}_images.npy", resize_all(images, size))
        np.save(folder / f"{part}_labels.npy", labels)
    return cache.Manifest(class_names=class_names, image_size=size, parts=("train", "test"))


def _load(content: bytes) -> Any:
    return _ArrayUnpickler(io.BytesIO(content), encoding="latin1").load()


class _ArrayUnpickler(pickle.Unpickler):
    """Makes arrays and plain values, and nothing else: a pickle may name any function to be called."""

    def find_class(self, module: str, name: str) -> Any:
        """The few names that a pickled array needs. Raises DataError for any other."""
        if (module, name) in {
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy._core.multiarray", "_reconstruct"),
        }:
            # where NumPy 2 keeps it; the old name, which is in the files, warns
            return super().find_class("numpy._core.multiarray", "_reconstruct")
        if (module, name) in {("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode")}:
            return super().find_class(module, name)
        raise DataError(
            f"a CIFAR-10 batch asks for {module}.{name}, which no array needs; fetch the archive again"
        )
