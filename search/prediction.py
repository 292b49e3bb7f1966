"""What a trained network says of image files, in batches, and how that is written down."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from search.formats import printable
from search.image_files import Complain

if TYPE_CHECKING:
    from trainables.classifier import Classifier

Format = Literal["table", "json", "csv"]
BATCH = 256
LONGEST_LABEL = 40


@dataclass(frozen=True, eq=False)
class Prediction:
    """What the network says of one file."""

    path: Path
    probabilities: np.ndarray
    """float32 (classes,)."""

    def best(self, top: int) -> list[tuple[int, float]]:
        """The most probable classes, each with its probability; of equal ones the first."""
        order = np.argsort(-self.probabilities, kind="stable")[:top]
        return [(int(index), float(self.probabilities[index])) for index in order]


def predictions(
    classifier: Classifier, paths: Iterable[Path], complain: Complain, batch: int = BATCH
) -> Iterator[Prediction]:
    """One for each file, in their order; no more than `batch` images are in memory at a time.

    A file that is no image is complained of, and left out. Raises ValueError where the network answers with
    NaN.
    """
    from trainables.data.images import UnreadableImageError, decode_file

    size = classifier.task.image_size

    def decoded(path: Path) -> np.ndarray | str:
        try:
            return decode_file(path, size)
        except UnreadableImageError as error:
            return " ".join(str(error).split())  # in one line, whatever the reader wrote

    remaining = iter(paths)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        while chunk := list(islice(remaining, batch)):
            images: list[tuple[Path, np.ndarray]] = []
            for path, image in zip(chunk, pool.map(decoded, chunk), strict=True):
                if isinstance(image, str):
                    complain(f"{path}: {image}")
                else:
                    images.append((path, image))
            if not images:
                continue
            probabilities = classifier.probabilities(np.stack([image for _, image in images]))
            if not np.isfinite(probabilities).all():
                raise ValueError("the network answers with values that are no numbers: its training diverged")
            for (path, _), row in zip(images, probabilities, strict=True):
                yield Prediction(path, row)


def written(form: Format, found: Iterable[Prediction], class_names: Sequence[str], top: int) -> Iterator[str]:
    """Pieces of text that make a table, a JSON array, or CSV, each as soon as it is known."""
    match form:
        case "table":
            return _table(found, class_names, top)
        case "json":
            return _json(found, class_names, top)
        case "csv":
            return _csv(found, class_names, top)


def _table(found: Iterable[Prediction], class_names: Sequence[str], top: int) -> Iterator[str]:
    from rich.cells import cell_len, set_cell_size

    # the file comes last, for nobody knows how long the longest is before all are read
    labels = [printable(name) for name in class_names]
    width = min(LONGEST_LABEL, max(len("label"), *map(cell_len, labels)))
    yield f"{'label':{width}}  probability  file\n"
    for one in found:
        name = f"  {printable(str(one.path))}"
        for index, probability in one.best(top):
            yield f"{set_cell_size(labels[index], width)}  {100 * probability:9.2f} %{name}\n"
            name = ""


def _json(found: Iterable[Prediction], class_names: Sequence[str], top: int) -> Iterator[str]:
    before = "[\n"
    for one in found:
        best = [{"label": class_names[index], "probability": share} for index, share in one.best(top)]
        yield before + json.dumps({"file": str(one.path), **best[0], "top": best})
        before = ",\n"
    yield "[]\n" if before == "[\n" else "\n]\n"


def _csv(found: Iterable[Prediction], class_names: Sequence[str], top: int) -> Iterator[str]:
    def line(cells: Sequence[object]) -> str:
        text = io.StringIO()
        csv.writer(text, lineterminator="\r\n").writerow(cells)  # so that either in a name is quoted
        return text.getvalue().removesuffix("\r\n") + "\n"

    ranks = ["", *(f"_{rank}" for rank in range(2, top + 1))]
    yield line(["file", *(f"{name}{rank}" for rank in ranks for name in ("label", "probability"))])
    for one in found:
        cells = [cell for index, share in one.best(top) for cell in (class_names[index], share)]
        yield line([one.path, *cells])
