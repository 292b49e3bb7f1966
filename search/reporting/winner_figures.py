"""Figures of the winner: which classes it confuses, and how it learnt."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from optuna.trial import FrozenTrial

from search.reporting import facts
from search.reporting.drawing import ACCENT, Figure, label, labels, plain_figure
from search.reporting.record import Record

MOST_CLASSES = 100
"""Beyond that a confusion matrix cannot be read on a page."""
COUNTED_CLASSES = 20
"""Up to so many, the number of images stands in each cell."""
NAMED_CLASSES = 50
"""Up to so many, classes are named."""
WIDE_CLASSES = 12
"""Up to so many fit on a telephone."""
MEASURES = {"accuracy": "accuracy", "macro_f1": "macro F1", "loss": "loss"}


def confusion(record: Record) -> Figure:
    """The confusion matrix of the winner's first model, as a heat map."""
    name, title = "confusion", "Confusion matrix"
    if record.tested_winner is None:
        return Figure(name, title, ("There is no confusion matrix: nothing has been evaluated.",))
    place, model = record.tested_winner
    counts, names = model["confusion"], (record.evaluation or {})["class_names"]
    classes = facts.count("key-count:/class_names", len(names))
    if len(names) > MOST_CLASSES:
        why = " classes are too many for a heat map; the most confused pairs are listed below, and "
        return Figure(name, title, (classes, why, "confusion_matrix.png shows all of them."))
    # a cell is coloured by its share of the images of its true class
    totals = [sum(row) or 1 for row in counts]
    counted = len(names) <= COUNTED_CLASSES
    figure = plain_figure(height=140 + max(300, min(26 * len(names), 760)))
    figure.add_heatmap(
        z=[[value / total for value in row] for row, total in zip(counts, totals, strict=True)],
        customdata=counts,
        text=[[value or "" for value in row] for row in counts] if counted else None,
        texttemplate="%{text}" if counted else "",
        zmin=0,
        zmax=1,
        showscale=False,
        xgap=1,
        ygap=1,
        hovertemplate="true %{y}<br>predicted %{x}<br>%{customdata} images, %{z:.1%} of them<extra></extra>",
    )
    places, shown = list(range(len(names))), labels(names, 18)
    axis: dict[str, Any] = {"tickmode": "array", "tickvals": places, "ticktext": shown, "showgrid": False}
    axis |= {"zeroline": False, "showticklabels": len(names) <= NAMED_CLASSES}
    figure.update_xaxes(**axis, title="predicted", side="bottom")
    figure.update_yaxes(**axis, title="true", autorange="reversed")
    model_fact = facts.text(f"evaluation:/models/{place}/trial", model["trial"])
    images = facts.count("evaluation:/images", (record.evaluation or {})["images"])
    text = ("Trial ", model_fact, ", ", images, " images. Rows are true classes; the colour is the share ")
    return Figure(name, title, (*text, "of the row."), figure, wide=len(names) > WIDE_CLASSES)


def learning_curves(record: Record) -> list[Figure]:
    """The winner's curves: the measure of the search, and the loss."""
    title = "Learning curves of the winner"
    if record.winner is None:
        return [Figure("winner-curves", title, ("There are no curves: no trial has a score.",))]
    measures = ["accuracy", "loss"]
    if record.metric not in measures:
        measures.insert(0, record.metric)
    return [_curves_of(record, record.winner, measure) for measure in measures]


def _curves_of(record: Record, number: int, measure: str) -> Figure:
    name, title = f"winner-{measure}", f"Learning curves of the winner: {MEASURES[measure]}"
    curves = dict(winner_curves(record, number, measure))
    if not curves:
        return Figure(name, title, ("There are no curves: its trial's reports are not on record.",))
    figure = plain_figure(height=340, hovermode="x unified")
    for kind, (epochs, values) in curves.items():
        again = kind.startswith("confirm")
        figure.add_scatter(
            x=epochs,
            y=values,
            name=label(kind),
            mode="lines+markers" if len(epochs) < 40 else "lines",
            marker={"size": 4},
            line={
                "color": {"training": "#9aa4af", "validation": ACCENT}.get(kind, "#63a088"),
                "width": 1 if again else 2,
                "dash": "dot" if kind == "training" else "solid",
            },
            showlegend=kind in ("training", "validation", "confirming run 1"),
        )
    figure.update_xaxes(title="epoch", rangemode="tozero")
    figure.update_yaxes(title=MEASURES[measure], tickformat="" if measure == "loss" else ".0%")
    trial = facts.text(f"trial:{number}:number", number)
    return Figure(name, title, ("Trial ", trial, " as the search trained it."), figure)


def winner_curves(
    record: Record, number: int, measure: str
) -> Iterator[tuple[str, tuple[list[int], list[float]]]]:
    """Name, and epochs and values, of each curve of a configuration: the search's own, then of later runs."""
    trial = record.by_number[number]
    for kind, prefix in (("training", "train"), ("validation", "val")):
        curve = _curve(trial, f"{prefix}_{measure}")
        if curve[0]:
            yield kind, curve
    again = [one for one in record.final_trials["confirm"] if one.user_attrs.get("of") == number]
    for position, run in enumerate(again, 1):
        curve = _curve(run, f"val_{measure}")
        if curve[0]:
            yield f"confirming run {position}", curve


def _curve(trial: FrozenTrial, key: str) -> tuple[list[int], list[float]]:
    rows = [row for row in trial.user_attrs.get("epochs", ()) if math.isfinite(row.get(key, math.nan))]
    return [int(row["epoch"]) for row in rows], [float(row[key]) for row in rows]
