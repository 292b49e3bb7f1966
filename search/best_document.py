"""The best configurations of a study as one JSON document, and what it says in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from search.formats import format_score
from search.tables import FACTS, plain, ranked, trial_facts

if TYPE_CHECKING:
    import optuna

    from search.final import Confirmation

SHOWN = tuple("parameters" if name == "network_parameters" else name for name in FACTS)
CONFIRMED = ("trial", "baseline", "search", "confirmed", "deviation", "gap", "seeds")


def best_document(study: optuna.Study, top: int, confirmation: Confirmation | None = None) -> dict[str, Any]:
    """The best `top` trials, every baseline and what was confirmed, as JSON types; what the run says of
    itself first.
    """
    rows = []
    confirmed = [] if confirmation is None else confirmation.best
    failed = [] if confirmation is None else confirmation.failed
    wanted = {one.trial for one in confirmed} | set(failed)
    for rank, trial in ranked(study):
        facts = trial_facts(trial, rank)
        if (rank is not None and rank <= top) or facts["baseline"] or trial.number in wanted:
            row = {shown: facts[name] for shown, name in zip(SHOWN, FACTS, strict=True)}
            rows.append({**row, "config": {name: plain(value) for name, value in trial.params.items()}})
    attributes = study.user_attrs
    return {
        **{key: attributes.get(key, "") for key in ("run", "space", "dataset", "note", "metric")},
        "direction": study.direction.name.lower(),
        "confirmed": [
            {
                "trial": one.trial,
                "baseline": one.baseline,
                "search": one.search_score,
                "mean": one.mean,
                "deviation": one.deviation,
                "gap": one.gap,
                "scores": list(one.scores),
                "failures": one.failures,
            }
            for one in confirmed
        ],
        # could not be trained with any new seed
        "not_confirmed": failed,
        "confirming": None
        if confirmation is None or confirmation.ended == confirmation.planned
        else {"ended": confirmation.ended, "planned": confirmation.planned},
        "trials": rows,
    }


def best_row(document: dict[str, Any]) -> dict[str, Any] | None:
    """The winner of a `best_document`: the best of those confirmed, or else of all; None without a score."""
    winner = document["confirmed"][0]["trial"] if document["confirmed"] else None
    for row in document["trials"]:
        if row["trial"] == winner or (winner is None and row["rank"] == 1):
            best: dict[str, Any] = row
            return best
    return None


def shown_rows(document: dict[str, Any]) -> list[dict[str, str]]:
    """The leading trials as text for reading, by the names of `SHOWN`."""
    return [
        {
            "rank": str(trial["rank"] or "-"),
            "trial": str(trial["trial"]),
            "baseline": _shortened(trial["baseline"]),
            "outcome": trial["outcome"],
            "score": format_score(trial["score"], document["metric"]),
            "epochs": str(trial["epochs"]),
            "parameters": f"{trial['parameters']:,}" if trial["parameters"] else "-",
            "seconds": f"{trial['seconds']:.0f}",
        }
        for trial in document["trials"]
    ]


def confirmed_rows(document: dict[str, Any]) -> list[dict[str, str]]:
    """What was confirmed as text for reading, the winner first, by the names of `CONFIRMED`."""
    metric = document["metric"]
    return [
        {
            "trial": str(one["trial"]),
            "baseline": _shortened(one["baseline"]),
            "search": format_score(one["search"], metric),
            "confirmed": format_score(one["mean"], metric),
            "deviation": format_score(one["deviation"], metric),
            "gap": format_score(one["gap"], metric),
            "seeds": f"{len(one['scores'])}" + (f", {one['failures']} failed" if one["failures"] else ""),
        }
        for one in document["confirmed"]
    ] + [
        dict.fromkeys(CONFIRMED, "-") | {"trial": str(number), "baseline": "", "seeds": "all failed"}
        for number in document["not_confirmed"]
    ]


def verdict(document: dict[str, Any]) -> str:
    """In a sentence, whether the best configuration is known to be good or was lucky."""
    if document["confirming"]:
        done = "{ended} of {planned}".format(**document["confirming"])
        return f"unconfirmed: {done} trainings with new seeds have ended"
    if not document["confirmed"]:
        return "unconfirmed: the best of many scores flatters, and none was earned again with other seeds"
    best = document["confirmed"][0]
    mean, seeds = format_score(best["mean"], document["metric"]), len(best["scores"])
    if seeds == 1:
        return f"confirmed: trial {best['trial']} earns {mean} with one new seed"
    deviation = format_score(best["deviation"], document["metric"])
    return f"confirmed: trial {best['trial']} earns {mean} ± {deviation} over {seeds} new seeds"


def _shortened(name: str, width: int = 16) -> str:
    # a user's space may name its baselines at any length; the table has to fit the screen
    return name if len(name) <= width else f"{name[: width - 1]}…"
