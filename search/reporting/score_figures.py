"""Figures of scores: over time, by epoch, and who went on at which rung."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from optuna.trial import FrozenTrial

from search.reporting import facts, timing
from search.reporting.derived import last_score, thinned
from search.reporting.drawing import ACCENT, COLOURS, Figure, plain_figure
from search.reporting.facts import Fact
from search.reporting.record import Record
from search.reporting.timing import NO_TIMES, unit_of
from search.reporting.winner_figures import MEASURES
from search.tables import trial_facts

MOST_CURVES = 200
"""Learning curves that are drawn; of more, the best half and some of the others."""
FEW_CURVES = 40
"""Up to so many, curves are drawn strongly."""
NOTHING_TRAINED = "It cannot be drawn: nothing has trained for an epoch."


def score_over_time(record: Record) -> Figure:
    """Each trial's last score at the moment it was known, and the best score until then."""
    name, title = "score", "Best score over time"
    clock = timing.Clock(timing.stays("search", record.trials))
    known, ended = [], []
    for trial in record.trials:
        ends = timing.epoch_ends(trial)
        if ends and last_score(trial) is not None:
            known += [(clock.at(end), trial.intermediate_values[epoch]) for epoch, end in ends.items()]
            ended.append((clock.at(ends[max(ends)]), trial))
    known = sorted(point for point in known if math.isfinite(point[1]))
    if not known:
        return Figure(name, title, (NO_TIMES if clock.seconds == 0 else NOTHING_TRAINED,))
    unit, seconds = unit_of(clock.seconds)
    figure = plain_figure(height=360)
    for outcome, trials in _by_outcome(trial for _, trial in ended).items():
        chosen = {trial.number for trial in trials}
        points = [(moment, trial) for moment, trial in ended if trial.number in chosen]
        figure.add_scatter(
            x=[round(moment / seconds, 4) for moment, _ in points],
            y=[last_score(trial) for _, trial in points],
            customdata=[[trial.number, trial.last_step] for _, trial in points],
            mode="markers",
            name=outcome,
            marker={"color": COLOURS[outcome], "size": 6, "opacity": 0.75},
            hovertemplate="trial %{customdata[0]}, %{customdata[1]} epochs: %{y}"
            + f"<extra>{outcome}</extra>",
        )
    better = max if record.maximize else min
    best: list[tuple[float, float]] = []
    for moment, value in known:
        if not best or better(value, best[-1][1]) != best[-1][1]:
            best.append((moment, value))
    best.append((clock.seconds, best[-1][1]))
    figure.add_scatter(
        x=[round(moment / seconds, 4) for moment, _ in best],
        y=[value for _, value in best],
        mode="lines",
        line={"shape": "hv", "width": 2, "color": ACCENT},
        name="best so far",
        hovertemplate="best so far: %{y}<extra></extra>",
    )
    figure.update_xaxes(title=unit, rangemode="tozero")
    figure.update_yaxes(**_score_axis(record, [value for _, value in known]))
    text = ["A point is a trial at its last epoch; the line is the best score of any epoch so far."]
    if clock.pauses:
        text.append(" Pauses of more than ten minutes are left out.")
    return Figure(name, title, tuple(text), figure)


def curves_by_outcome(record: Record) -> Figure:
    """Score by epoch of each trial, coloured by how it ended."""
    name, title = "curves", "Learning curves by outcome"
    trials = [trial for trial in record.trials if trial.intermediate_values]
    if not trials:
        return Figure(name, title, (NOTHING_TRAINED,))
    shown = thinned(trials, MOST_CURVES, record.maximize)
    many = len(shown) > FEW_CURVES
    figure = plain_figure(height=380, showlegend=True)
    for outcome, members in _by_outcome(shown).items():
        x: list[int | None] = []
        y: list[float | None] = []
        numbers: list[int | None] = []
        for trial in members:
            steps = sorted(trial.intermediate_values)
            x += [*steps, None]
            y += [*(_rounded(trial.intermediate_values[step]) for step in steps), None]
            numbers += [trial.number] * len(steps) + [None]
        figure.add_scatter(
            x=x,
            y=y,
            customdata=numbers,
            mode="lines+markers",  # a marker shows a trial of one epoch
            name=outcome,
            line={"color": COLOURS[outcome], "width": 0.8 if many else 1.4},
            marker={"size": 2 if many else 4},
            opacity=0.5 if many else 0.8,
            hovertemplate=f"trial %{{customdata}}, epoch %{{x}}: %{{y}}<extra>{outcome}</extra>",
        )
    values = [value for trial in shown for value in trial.intermediate_values.values()]
    figure.update_xaxes(title="epoch", rangemode="tozero")
    figure.update_yaxes(**_score_axis(record, values))
    text: tuple[str | Fact, ...] = ()
    if len(shown) < len(trials):
        some, every = (
            facts.count("count:curves-drawn", len(shown)),
            facts.count("count:trained", len(trials)),
        )
        text = (some, " of ", every, " curves: those of the best trials, and some of the others.")
    return Figure(name, title, text, figure)


def survivors(record: Record) -> Figure:
    """How many trials came to each rung, and how many went on past it."""
    name, title = "survivors", "Survivors by rung"
    arrived: dict[int, int] = {}
    gone_on: dict[int, int] = {}
    for trial in record.trials:
        for level in trial.user_attrs.get("arrivals", {}):
            arrived[int(level)] = arrived.get(int(level), 0) + 1
        for level in trial.user_attrs.get("gone_on", ()):
            gone_on[int(level)] = gone_on.get(int(level), 0) + 1
    if not arrived:
        return Figure(name, title, ("It cannot be drawn: no trial has come to a rung.",))
    levels = sorted(arrived)
    figure = plain_figure(height=340, barmode="group", bargap=0.35)
    for kind, counts, colour in (("arrived", arrived, "#9aa4af"), ("went on", gone_on, ACCENT)):
        values = [counts.get(level, 0) for level in levels]
        figure.add_bar(
            x=[str(level) for level in levels],
            y=values,
            name=kind,
            marker={"color": colour},
            text=values,
            textposition="outside",
            cliponaxis=False,
            hovertemplate="epoch %{x}: %{y} " + kind + "<extra></extra>",
        )
    figure.update_xaxes(title="rung, in epochs", type="category")
    figure.update_yaxes(title="trials")
    return Figure(name, title, ("Nobody goes on past the last rung: there a trial is complete.",), figure)


def _by_outcome(trials: Iterable[FrozenTrial]) -> dict[str, list[FrozenTrial]]:
    """Trials by outcome, the winner's kind last so that it is drawn over the others."""
    found: dict[str, list[FrozenTrial]] = {name: [] for name in reversed(COLOURS)}
    for trial in trials:
        found[trial_facts(trial)["outcome"]].append(trial)
    return {name: members for name, members in found.items() if members}


def _score_axis(record: Record, values: list[float]) -> dict[str, Any]:
    """Shares in percent; losses on a scale on which one that explodes leaves the others room."""
    title = f"validation {MEASURES[record.metric]}"
    if record.metric != "loss":
        return {"title": title, "tickformat": ".0%", "hoverformat": ".2%"}
    positive = all(value > 0 for value in values if math.isfinite(value))
    return {"title": title, "type": "log" if positive else "linear", "hoverformat": ".4f"}


def _rounded(value: float) -> float | None:
    return float(f"{value:.6g}") if math.isfinite(value) else None
