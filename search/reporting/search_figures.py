"""Figures of how the search went."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from optuna.trial import FrozenTrial

from search.reporting import derived, facts, timing
from search.reporting.drawing import ACCENT, COLOURS, PHASES, Figure, labels, plain_figure, restyle
from search.reporting.facts import Fact
from search.reporting.record import Record
from search.reporting.winner_figures import MEASURES
from search.tables import trial_facts

MOST_CURVES = 200
"""Learning curves that are drawn; of more, the best half and some of the others."""
FEW_CURVES = 40
"""Up to so many, curves are drawn strongly."""
MOST_LINES = 100
"""Trials that have a line through the parallel coordinates."""
AXES = 8
"""Parameters that have an axis there."""
BARS = 15
"""Parameters whose importance is shown."""
NO_TIMES = "It cannot be drawn: the times of its stints are not on record."
NOTHING_TRAINED = "It cannot be drawn: nothing has trained for an epoch."


def search_figures(record: Record) -> list[Figure]:
    """All of them, in the order of the page."""
    found = derived.importances(record.trials, record.maximize)
    return [
        score_over_time(record),
        curves_by_outcome(record),
        survivors(record),
        slots_over_time(record),
        parallel_coordinates(record, found),
        parameter_importance(found),
        time_spent(record),
    ]


def score_over_time(record: Record) -> Figure:
    """Each trial's last score at the moment it was known, and the best score until then."""
    name, title = "score", "Best score over time"
    clock = timing.Clock(timing.stays("search", record.trials))
    known, ended = [], []
    for trial in record.trials:
        ends = timing.epoch_ends(trial)
        if ends and derived.last_score(trial) is not None:
            known += [(clock.at(end), trial.intermediate_values[epoch]) for epoch, end in ends.items()]
            ended.append((clock.at(ends[max(ends)]), trial))
    known = sorted(point for point in known if math.isfinite(point[1]))
    if not known:
        return Figure(name, title, (NO_TIMES if clock.seconds == 0 else NOTHING_TRAINED,))
    unit, seconds = _unit(clock.seconds)
    figure = plain_figure(height=360)
    for outcome, trials in _by_outcome(trial for _, trial in ended).items():
        chosen = {trial.number for trial in trials}
        points = [(moment, trial) for moment, trial in ended if trial.number in chosen]
        figure.add_scatter(
            x=[round(moment / seconds, 4) for moment, _ in points],
            y=[derived.last_score(trial) for _, trial in points],
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


def thinned(trials: list[FrozenTrial], most: int, maximize: bool) -> list[FrozenTrial]:
    """At most so many trials: the best half, and of the others every so many-th. In order of number."""
    if len(trials) <= most:
        return trials
    worst = -math.inf if maximize else math.inf

    def goodness(trial: FrozenTrial) -> float:
        score = derived.last_score(trial)
        value = score if score is not None and math.isfinite(score) else worst
        return value if maximize else -value

    ranked = sorted(trials, key=goodness, reverse=True)
    best, others = ranked[: most // 2], sorted(ranked[most // 2 :], key=lambda trial: trial.number)
    places = most - len(best)
    some = [others[i * len(others) // places] for i in range(places)]
    return sorted([*best, *some], key=lambda trial: trial.number)


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


def slots_over_time(record: Record) -> Figure:
    """A bar a stint, on the slot that had it."""
    name, title = "slots", "Slots busy over time"
    known = timing.stays("search", record.trials)
    for phase, trials in record.final_trials.items():
        known += timing.stays(phase, trials)
    if not known:
        return Figure(name, title, (NO_TIMES,))
    clock, lane = timing.Clock(known), timing.lanes(known)
    unit, seconds = _unit(clock.seconds)
    slots = max(lane) + 1
    figure = plain_figure(height=min(720, 150 + 34 * slots), barmode="overlay", bargap=0.25)
    for phase in dict.fromkeys(stay.phase for stay in known):
        bars = [(stay, lane[i]) for i, stay in enumerate(known) if stay.phase == phase]
        figure.add_bar(
            orientation="h",
            x=[round((stay.end - stay.begin) / seconds, 5) for stay, _ in bars],
            base=[round(clock.at(stay.begin) / seconds, 5) for stay, _ in bars],
            y=[place + 1 for _, place in bars],
            customdata=[[stay.trial.number, stay.stint["from_epoch"]] for stay, _ in bars],
            name=phase,
            marker={"color": PHASES[phase], "line": {"width": 0}},
            hovertemplate="trial %{customdata[0]}, from epoch %{customdata[1]}<extra>" + phase + "</extra>",
        )
    figure.update_layout(showlegend=len(figure.data) > 1)
    figure.update_xaxes(title=unit, rangemode="tozero")
    figure.update_yaxes(title="slot", dtick=max(1, slots // 8), autorange="reversed", showgrid=False)
    spent = timing.spent(record.trials, record.max_epochs)
    share = spent.busy / (spent.busy + spent.idle) if spent.busy else None
    text: list[str | Fact] = []
    if share is not None:
        text = ["Slots were busy for ", facts.percent("time:busy-share", share), " of the search."]
    if clock.pauses:
        text.append(" Pauses of more than ten minutes are left out.")
    return Figure(name, title, tuple(text), figure)


def time_spent(record: Record) -> Figure:
    """What the slots' time went to, and what stopping early saved."""
    name, title = "time", "Time spent, and saved by stopping early"
    spent = timing.spent(record.trials, record.max_epochs)
    if not sum(spent.by_kind.values()):
        return Figure(name, title, (NO_TIMES,))
    other = max(0.0, spent.busy - sum(spent.by_kind.values()))
    parts = {**spent.by_kind, "handing over": other, "idle": spent.idle, "saved": spent.saved}
    colours = [ACCENT, "#7aa9dc", "#c9a557", "#8d5a86", "#9aa4af", "#c4cad1", "#63a088"]
    unit, seconds = _unit(sum(parts.values()))
    figure = plain_figure(height=300, barmode="stack", bargap=0.45)
    figure.update_layout(legend={"traceorder": "normal"})
    for (part, value), colour in zip(parts.items(), colours, strict=True):
        figure.add_bar(
            orientation="h",
            x=[round(value / seconds, 5)],
            y=["saved" if part == "saved" else "spent"],
            name=part,
            marker={"color": colour},
            hovertemplate=f"{part}: %{{x}} {unit}<extra></extra>",
        )
    figure.update_xaxes(title=f"{unit} of one slot")
    figure.update_yaxes(autorange="reversed")
    text = (
        "All slots together spent ",
        facts.duration("time:spent", sum(spent.by_kind.values()) + other + spent.idle),
        ", ",
        facts.duration("time:training", spent.by_kind["training"]),
        " of them training. Trials that were stopped early would have taken another ",
        facts.duration("time:saved", spent.saved),
        " to their last epoch, each at its own speed.",
    )
    return Figure(name, title, text, figure)


def parallel_coordinates(
    record: Record, found: tuple[derived.Derived, dict[str, float], int] | None
) -> Figure:
    """A line a trial through its parameters, by Optuna."""
    name, title = "parallel", "Parallel coordinates"
    if found is None:
        return Figure(name, title, (_too_little(),))
    from optuna.visualization import plot_parallel_coordinate

    trials = [trial for trial in record.trials if derived.last_score(trial) is not None]
    shown = derived.derive(thinned(trials, MOST_LINES, record.maximize), derived.last_score, record.maximize)
    matters = [found[0].names[short] for short in found[1]]
    here = {real: short for short, real in shown.names.items()}
    chosen = [here[real] for real in matters if real in here][:AXES]
    if not chosen:
        return Figure(name, title, (_too_little(),))
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


def parameter_importance(found: tuple[derived.Derived, dict[str, float], int] | None) -> Figure:
    """How much each parameter decides whether a trial is among the best, by Optuna."""
    name, title = "importance", "Parameter importance"
    if found is None:
        return Figure(name, title, (_too_little(),))
    from optuna.importance import PedAnovaImportanceEvaluator
    from optuna.visualization import plot_param_importances

    study, values, epoch = found
    largest = list(values)[:BARS]
    with derived.quiet():
        figure = plot_param_importances(study.study, evaluator=PedAnovaImportanceEvaluator(), params=largest)
    (bars,) = figure.data
    shown = [study.names[short] for short in bars.y]
    restyle(figure, height=130 + 24 * len(shown))
    bars.marker = {"color": ACCENT}
    bars.hovertemplate = "%{y}: %{x:.3f}<extra></extra>"
    figure.update_xaxes(title="importance", range=[0, 1.15 * max(bars.x)])  # room for the text
    figure.update_yaxes(title=None, tickmode="array", tickvals=list(bars.y), ticktext=labels(shown))
    trials = len(study.study.get_trials(deepcopy=False))
    text = (
        "By PED-ANOVA over the scores of ",
        facts.count("count:compared", trials),
        " trials after epoch ",
        facts.count("count:compared-epoch", epoch),
        ". From so few trials it is a rough guess." if trials < derived.FEW else ".",
    )
    return Figure(name, title, text, figure)


def _too_little() -> str:
    return "It cannot be drawn: it takes at least five trials with a score, and two parameters that differ."


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


def _unit(seconds: float) -> tuple[str, float]:
    """What a time axis counts in, and how many seconds that is."""
    if seconds < 180:
        return "seconds", 1.0
    return ("minutes", 60.0) if seconds < 3 * 3600 else ("hours", 3600.0)
