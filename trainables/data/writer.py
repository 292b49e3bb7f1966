"""Writing one part's images as they come, and putting them in order at the end, in little memory."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt

from trainables.data.dataset import DataError
from trainables.data.layout import Place

_CHUNK_BYTES = 64 * 2**20


class PartWriter:
    """A part of a decoded data set: `<part>_images.npy` (images, size, size, 3) and `<part>_labels.npy`.

    Images go to a plain file first, because only at the end are their number and order known.
    """

    def __init__(self, folder: Path, part: str, size: int) -> None:
        self._folder = folder
        self._part = part
        self._shape = (size, size, 3)
        self._places: list[Place] = []
        self._raw_path = folder / f"{part}.raw"
        self._raw = self._raw_path.open("wb")

    def __enter__(self) -> PartWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._raw.close()

    def add(self, place: Place, image: npt.NDArray[np.uint8]) -> None:
        """Take one image, (size, size, 3)."""
        assert image.shape == self._shape
        self._places.append(place)
        self._raw.write(np.ascontiguousarray(image).data)

    def finish(self, class_names: tuple[str, ...], source: Path) -> None:
        """Write both arrays, sorted by class and file name; a label is an index into `class_names`.

        Raises DataError for a file that `source` holds twice, as an archive may.
        """
        self._raw.close()
        order = sorted(range(len(self._places)), key=lambda i: self._sort_key(self._places[i]))
        places = [self._places[index] for index in order]
        for one, two in itertools.pairwise(places):
            if one == two:
                raise DataError(
                    f"{source}: {one.part}/{one.class_name}/{one.file_name} is there twice; keep one of them"
                )
        index_of = {name: index for index, name in enumerate(class_names)}
        labels = np.array([index_of[place.class_name] for place in places], dtype=np.int64)
        np.save(self._folder / f"{self._part}_labels.npy", labels)
        self._write_images(np.array(order))
        self._raw_path.unlink()

    def _write_images(self, order: npt.NDArray[np.int64]) -> None:
        shape = (len(order), *self._shape)
        unsorted = np.memmap(self._raw_path, dtype=np.uint8, mode="r", shape=shape)
        step = max(1, _CHUNK_BYTES // (self._shape[0] * self._shape[1] * 3))
        with (self._folder / f"{self._part}_images.npy").open("wb") as file:
            np.lib.format.write_array_header_1_0(
                file, {"descr": "|u1", "fortran_order": False, "shape": shape}
            )
            for start in range(0, len(order), step):
                file.write(unsorted[order[start : start + step]].data)

    @staticmethod
    def _sort_key(place: Place) -> tuple[str, str]:
        return place.class_name, place.file_name
