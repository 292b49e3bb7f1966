"""Predicted images on one sheet, with what they were taken for and, where that is known, what they are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from search.figure import new_figure, save_figure
from search.formats import printable
from search.settings import UsageError

MOST = 60
"""Images on a sheet."""
SIDE = 160
"""Pixels that an image is drawn from, at most."""
LONGEST_NAME = 22
BLUE, RED = "#0057b8", "#c00000"


@dataclass(frozen=True, eq=False)
class Picture:
    """One image on the sheet."""

    name: str
    pixels: np.ndarray
    """uint8 (side, side, 3)."""
    predicted: str
    probability: float
    true: str | None
    """None where nobody knows."""


def read_picture(path: Path, predicted: str, probability: float, class_names: Sequence[str]) -> Picture:
    """The image in a file, as large as it is but for `SIDE`; its class is known by the folder it lies in."""
    from trainables.data.images import decode, shorter_side

    content = path.read_bytes()
    folder = path.absolute().parent.name
    return Picture(
        name=path.name,
        pixels=decode(content, min(SIDE, shorter_side(content))),
        predicted=predicted,
        probability=probability,
        true=folder if folder in class_names else None,
    )


def check_sheet(path: Path) -> None:
    """Raise UsageError where no picture can be written to `path`, before there is anything to draw."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    known = FigureCanvasAgg.filetypes
    if path.suffix.lower().removeprefix(".") not in known:
        raise UsageError(
            f"--show {path} must end in one of {', '.join(f'.{name}' for name in sorted(known))}"
        )
    if not path.parent.is_dir():
        raise UsageError(f"--show {path} cannot be written: there is no folder {path.parent}")


def draw_sheet(pictures: Sequence[Picture], path: Path) -> None:
    """Draw up to `MOST` pictures; the suffix says the format. Raises UsageError where that cannot be done."""
    columns = min(10, math.ceil(math.sqrt(len(pictures))))
    rows = math.ceil(len(pictures) / columns)
    figure = new_figure(1.8 * columns, 2.3 * rows)
    for place, picture in enumerate(pictures, start=1):
        axes = figure.add_subplot(rows, columns, place)
        axes.imshow(picture.pixels, interpolation="nearest")
        axes.set_axis_off()
        title = f"{printable(picture.predicted, LONGEST_NAME)}\n{100 * picture.probability:.1f} %"
        color = "black"
        if picture.true is not None:
            right = picture.true == picture.predicted
            title += ", right" if right else f", is {printable(picture.true, LONGEST_NAME)}"
            color = BLUE if right else RED
        # a name may hold a $, which is no mathematics here
        axes.set_title(title, fontsize=8, color=color, parse_math=False)
        axes.text(
            0.5,
            -0.03,
            printable(picture.name, LONGEST_NAME),
            fontsize=6,
            ha="center",
            va="top",
            transform=axes.transAxes,
            parse_math=False,
        )
    try:
        save_figure(figure, path)
    except OSError as error:
        raise UsageError(f"--show {path} cannot be written: {error.strerror}") from error
