"""The best configuration and its rivals, as facts: what each scored, and with which parameters."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

from search.final import Confirmed
from search.reporting import facts
from search.reporting.facts import Fact
from search.reporting.record import LEADING, Record
from search.study import OUTCOMES
from search.tables import trial_facts


@dataclass(frozen=True)
class Candidate:
    """One configuration in the table beside the others."""

    name: Fact
    """Its baseline name, or empty."""
    winner: bool
    trial: Fact
    outcome: Fact
    score: Fact
    epochs: Fact
    seconds: Fact
    parameters: Fact
    confirmed: Fact | None = None
    deviation: Fact | None = None
    seeds: Fact | None = None
    gap: Fact | None = None
    tested: Fact | None = None


@dataclass(frozen=True)
class Setting:
    """One parameter, and its value in each candidate."""

    name: Fact
    values: list[Fact | None]
    differs: bool
    """Whether the candidates have different values."""


def search_fact(record: Record, name: str) -> Fact:
    """What the study says of itself."""
    return facts.text(f"search:{name}", record.attributes.get(name, ""))


def candidates(record: Record) -> list[Candidate]:
    """The winner, what else was confirmed, and every baseline."""
    winner, luck = record.winner, {one.trial: one for one in record.confirmed}
    rows = {row["trial"]: row for row in record.document["trials"]}
    baselines = [number for number, row in rows.items() if row["baseline"]]
    chosen = dict.fromkeys([*([] if winner is None else [winner]), *luck, *baselines])
    return [_candidate(record, number, luck.get(number)) for number in chosen]


def leading(record: Record) -> list[Candidate]:
    """The best trials by their score in the search."""
    rows = [row for row in record.document["trials"] if row["rank"] is not None and row["rank"] <= LEADING]
    return [_candidate(record, row["trial"], None) for row in rows]


def _candidate(record: Record, number: int, luck: Confirmed | None) -> Candidate:
    trial, metric = record.by_number[number], record.metric
    noted, source = trial.user_attrs, f"trial:{number}"
    row = trial_facts(trial)
    found = Candidate(
        name=facts.text(f"{source}:baseline", noted.get("baseline", "")),
        winner=number == record.winner,
        trial=facts.text(f"{source}:number", number),
        outcome=facts.text(f"{source}:outcome", row["outcome"]),
        score=facts.score(f"{source}:score", row["score"], metric),
        epochs=facts.count(f"{source}:epochs", row["epochs"]),
        seconds=facts.duration(f"{source}:seconds", row["seconds"] or None),
        parameters=facts.count(f"{source}:network_parameters", row["network_parameters"]),
        tested=_tested_accuracy(record, number),
    )
    if luck is None:
        return found
    source = f"confirm:{number}"
    return replace(
        found,
        confirmed=facts.score(f"{source}:mean", luck.mean, metric),
        deviation=facts.difference(f"{source}:deviation", luck.deviation, metric),
        seeds=facts.count(f"{source}:seeds", len(luck.scores)),
        gap=facts.difference(f"{source}:gap", luck.gap, metric),
    )


def _tested_accuracy(record: Record, number: int) -> Fact | None:
    """Mean over the models of the winner; that of the only model of another configuration."""
    models = [(place, model) for place, model in record.tested if model["trial"] == number]
    if not models:
        return None
    place, model = models[0]
    if len(models) > 1 and model["winner"]:
        assert record.evaluation is not None
        mean = record.evaluation["winner"]["accuracy_mean"]
        return facts.percent("evaluation:/winner/accuracy_mean", mean)
    return facts.percent(f"evaluation:/models/{place}/accuracy", model["accuracy"])


def settings_table(record: Record, shown: list[Candidate]) -> list[Setting]:
    """Every parameter that any of these has, in the order of the space."""
    trials = [record.by_number[candidate.trial.value] for candidate in shown]
    rows = []
    for name in dict.fromkeys(name for trial in trials for name in trial.params):
        values = [
            facts.text(f"trial:{trial.number}:param:{name}", trial.params[name])
            if name in trial.params
            else None
            for trial in trials
        ]
        differs = len({None if value is None else value.text for value in values}) > 1
        rows.append(Setting(facts.text(f"parameter:{name}", name), values, differs))
    return rows


def outcomes(record: Record) -> list[tuple[str, Fact]]:
    """How many trials ended in each way; those that none ended in are left out."""
    counts = Counter(trial_facts(trial)["outcome"] for trial in record.trials)
    return [
        (name, facts.count(f"count:{name}", counts[name]))
        for name in (*OUTCOMES, "unfinished")
        if counts[name]
    ]


def runner_up_is_as_good(record: Record) -> bool:
    """Whether the means of the first two confirmed lie closer together than their seeds do."""
    if len(record.confirmed) < 2:
        return False
    first, second = record.confirmed[:2]
    return abs(first.mean - second.mean) <= (first.deviation or 0.0) + (second.deviation or 0.0)
