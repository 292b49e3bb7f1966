"""Pictures for papers and slides: the confusion matrix and the winner's learning curves."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.confusion_picture import draw_confusion
from search.reporting.record import Record
from search.reporting.winner_figures import MEASURES, winner_curves

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 150
LABEL = 24
FONTS = ("DejaVu Sans", "Noto Sans CJK SC", "Noto Sans SC", "Noto Sans", "PingFang SC", "Microsoft YaHei")
"""Tried in this order for each character, as far as they are installed."""


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
    figure, both = _new_figure((9, 3.8), 2)
    for axes, measure in zip(both, measures, strict=True):
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
    _save(figure, path)


def _new_figure(size: tuple[float, float], columns: int) -> tuple[Figure, list[Axes]]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # no pyplot: it keeps figures, and asks for a display
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, [figure.add_subplot(1, columns, i + 1) for i in range(columns)]


def _save(figure: Figure, path: Path) -> None:
    from matplotlib import rc_context
    from matplotlib.font_manager import fontManager

    installed = {font.name for font in fontManager.ttflist}
    fonts = [name for name in FONTS if name in installed]
    for text in figure.findobj(lambda artist: hasattr(artist, "set_fontfamily")):
        text.set_fontfamily(fonts)  # type: ignore[attr-defined]
    with rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # it draws a box instead
        temporary = path.with_name(f"{path.name}.tmp")
        figure.savefig(temporary, dpi=DPI, format="png")
    temporary.replace(path)


def _shortened(name: str) -> str:
    text = " ".join(name.split())
    return text if len(text) <= LABEL else f"{text[: LABEL - 1]}…"
