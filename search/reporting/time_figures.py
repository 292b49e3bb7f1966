"""Figures of time: which slot was busy when, and what the time went to."""

from __future__ import annotations

from search.reporting import facts, timing
from search.reporting.drawing import ACCENT, PHASES, Figure, plain_figure
from search.reporting.facts import Fact
from search.reporting.record import Record
from search.reporting.timing import NO_TIMES, unit_of


def slots_over_time(record: Record) -> Figure:
    """A bar a stint, on the slot that had it."""
    name, title = "slots", "Slots busy over time"
    known = timing.stays("search", record.trials)
    for phase, trials in record.final_trials.items():
        known += timing.stays(phase, trials)
    if not known:
        return Figure(name, title, (NO_TIMES,))
    clock, lane = timing.Clock(known), timing.lanes(known)
    unit, seconds = unit_of(clock.seconds)
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
    unit, seconds = unit_of(sum(parts.values()))
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
