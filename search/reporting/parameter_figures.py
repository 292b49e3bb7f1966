"""Figures of parameters: which values go together, and which parameters matter."""

from __future__ import annotations

from search.reporting import facts
from search.reporting.derived import FEW, Derived, derive, last_score, thinned
from search.reporting.drawing import ACCENT, Figure, labels, plain_figure, restyle
from search.reporting.facts import Fact
from search.reporting.record import Record
from search.reporting.winner_figures import MEASURES

MOST_LINES = 100
"""Trials that have a line through the parallel coordinates."""
AXES = 8
"""Parameters that have an axis there."""
BARS = 15
"""Parameters whose importance is shown."""
TOO_LITTLE = "It cannot be drawn: it takes at least five trials with a score, and two parameters that differ."


def parallel_coordinates(record: Record, found: tuple[Derived, dict[str, float], int] | None) -> Figure:
    """A line a trial through its parameters, by Optuna."""
    name, title = "parallel", "Parallel coordinates"
    if found is None:
        return Figure(name, title, (TOO_LITTLE,))
    from optuna.visualization import plot_parallel_coordinate

    trials = [trial for trial in record.trials if last_score(trial) is not None]
    shown = derive(thinned(trials, MOST_LINES, record.maximize), last_score, record.maximize)
    matters = [found[0].names[short] for short in found[1]]
    here = {real: short for short, real in shown.names.items()}
    chosen = [here[real] for real in matters if real in here][:AXES]
    if not chosen:
        return Figure(name, title, (TOO_LITTLE,))
    figure = plot_parallel_coordinate(shown.study, params=chosen)
    restyle(figure, height=460)
    figure.data = figure.data[:-1]  # the last one is a colour bar
    for line in figure.data:
        height = line.y[0] if record.maximize else 1 - line.y[0]
        line.line.color = f"rgba(59,125,196,{0.12 + 0.88 * height**2:.3f})"
        line.opacity = 1
        line.customdata = None
        line.hoverinfo, line.hovertemplate = "skip", None
        line.y = [round(value, 4) for value in line.y]
    figure.update_layout(margin={"l": 40, "r": 56})
    figure.update_annotations(font={"size": 10, "color": None})
    order = sorted(chosen)  # as Optuna orders its axes
    figure.update_xaxes(ticktext=[MEASURES[record.metric], *labels([shown.names[s] for s in order], 18)])
    text: list[str | Fact] = ["The stronger a line, the better the trial at its last epoch."]
    if len(shown.names) > len(chosen):
        text.append(" Only the parameters that matter most have an axis.")
    if len(shown.study.get_trials(deepcopy=False)) < len(trials):
        text += [" ", facts.count("count:lines-drawn", MOST_LINES), " of "]
        text += [facts.count("count:scored", len(trials)), " trials: the best, and some of the others."]
    return Figure(name, title, tuple(text), figure, wide=True)


def parameter_importance(found: tuple[Derived, dict[str, float], int] | None) -> Figure:
    """How much each parameter decides whether a trial is among the best."""
    name, title = "importance", "Parameter importance"
    if found is None:
        return Figure(name, title, (TOO_LITTLE,))
    study, values, epoch = found
    largest = dict(reversed(list(values.items())[:BARS]))  # a bar chart begins below
    # Optuna's own figure would copy all trials for every bar
    figure = plain_figure(height=130 + 24 * len(largest))
    figure.add_bar(
        orientation="h",
        x=list(largest.values()),
        y=labels([study.names[short] for short in largest]),
        text=[f"{value:.2f}" if value >= 0.01 else "&lt;0.01" for value in largest.values()],
        textposition="outside",
        cliponaxis=False,
        marker={"color": ACCENT},
        hovertemplate="%{y}: %{x:.3f}<extra></extra>",
    )
    figure.update_xaxes(title="importance", range=[0, 1.15 * max(largest.values()) or 1])  # room for the text
    figure.update_yaxes(type="category")
    trials = len(study.study.get_trials(deepcopy=False))
    text = (
        "By PED-ANOVA over the scores of ",
        facts.count("count:compared", trials),
        " trials after epoch ",
        facts.count("count:compared-epoch", epoch),
        ". From so few trials it is a rough guess." if trials < FEW else ".",
    )
    return Figure(name, title, text, figure)
