"""Pictures for papers and slides: the confusion matrix and the winner's learning curves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from search.confusion_picture import draw_confusion
from search.figure import new_figure, save_figure
from search.reporting.record import Record
from search.reporting.winner_figures import MEASURES, winner_curves


def write_pictures(record: Record) -> list[Path]:
    """Write confusion_matrix.png, unless it is there, and learning_curves.png into the run folder.

    Returns what was written; what there is no data for is left out. OSError where a file cannot be written.
    """
    written = []
    matrix, curves = record.path / "confusion_matrix.png", record.path / "learning_curves.png"
    if record.tested_winner is not None and not matrix.exists():
        assert record.evaluation is not None
        draw_confusion(record.evaluation, matrix)
        written.append(matrix)
    if record.winner is not None and list(winner_curves(record, record.winner, "loss")):
        _draw_curves(record, record.winner, curves)
        written.append(curves)
    return written


def _draw_curves(record: Record, number: int, path: Path) -> None:
    measures = ("loss", "accuracy" if record.metric == "loss" else record.metric)
    figure = new_figure(9, 3.8)
    for place, measure in enumerate(measures, start=1):
        axes = figure.add_subplot(1, len(measures), place)
        for name, (epochs, values) in winner_curves(record, number, measure):
            style: dict[str, Any] = {"color": "#63a088", "linewidth": 0.8}
            if not name.startswith("confirm"):
                own = {"color": "#9aa4af", "linestyle": "--"} if name == "training" else {"color": "#3b7dc4"}
                style = {**own, "linewidth": 1.8}
            shown = name if name in ("training", "validation", "confirming run 1") else "_"
            axes.plot(epochs, values, label=shown, marker="o" if len(epochs) < 10 else None, **style)
        axes.set(xlabel="epoch", ylabel=MEASURES[measure])
        axes.grid(alpha=0.25)
        axes.legend(frameon=False)
    save_figure(figure, path)
