"""The confusion matrix as a picture, readable for 2 classes and for 100."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from search.figure import new_figure, save_figure
from search.formats import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WRITTEN_OUT = 25
"""Classes up to which every count stands in its cell."""
LONGEST_NAME = 24


def draw_confusion(document: dict[str, Any], path: Path) -> None:
    """Draw the first model's matrix of an `evaluation.json`: rows are true classes, colours their shares.

    Raises OSError where `path` cannot be written.
    """
    from matplotlib.colors import PowerNorm

    model = document["models"][0]
    counts = np.array(model["confusion"])
    classes = len(counts)
    few = classes <= WRITTEN_OUT
    side = 2.5 + 0.5 * classes if few else min(20.0, 3 + 0.16 * classes)
    figure = new_figure(max(5.0, side + 1), max(4.2, side))
    axes = figure.add_subplot()
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    # by the root, or the mistakes of a good model would all be white
    image = axes.imshow(shares, cmap="Blues", norm=PowerNorm(0.5, 0, 1))
    bar = figure.colorbar(image, ax=axes, shrink=0.8, label="share of the true class")
    ticks = [0, 0.01, 0.05, 0.1, 0.25, 0.5, 1]
    bar.set_ticks(ticks, labels=[f"{tick:.0%}" for tick in ticks])
    _label(axes, [printable(name, LONGEST_NAME) for name in document["class_names"]])
    if few:
        for (true, said), count in np.ndenumerate(counts):
            if count:
                color = "white" if shares[true, said] > 0.3 else "black"
                axes.text(said, true, f"{count:,}", ha="center", va="center", color=color, fontsize=8)
    named = model["baseline"] or f"trial {model['trial']}"
    unconfirmed = "" if document["confirmed"] else ", unconfirmed"
    axes.set_title(
        f"{document['run']}: {named}{unconfirmed}\n"
        f"{100 * model['accuracy']:.2f} % of {document['images']:,} {document['part']} images right",
        parse_math=False,
        fontsize=11 if few else 16,
    )
    save_figure(figure, path, dpi=150 if few else 110)


def _label(axes: Axes, names: list[str]) -> None:
    """Class names along both sides; of more than 120 only some, as far apart as they need to be read."""
    step = -(-len(names) // 120)
    places, names = list(range(0, len(names), step)), names[::step]
    size = 9 if len(names) <= WRITTEN_OUT else 7
    # a name may hold a $, which is no mathematics here
    upright = 90 if max(map(len, names)) > 2 else 0
    axes.set_xticks(places, names, rotation=upright, fontsize=size, parse_math=False)
    axes.set_yticks(places, names, fontsize=size, parse_math=False)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
