"""A study as tables: every trial a row, the best few for reading, and the formats people paste elsewhere."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import optuna
    import pandas as pd

    from search.final import Confirmation

Format = Literal["md", "csv", "json", "yaml", "latex", "html"]
FACTS = ("rank", "trial", "baseline", "outcome", "score", "epochs", "network_parameters", "seconds")
DETAILS = ("precision", "device", "node", "stints", "error")
SHOWN = tuple("parameters" if name == "network_parameters" else name for name in FACTS)


def trials_table(study: optuna.Study) -> pd.DataFrame:
    """Every trial a row, best score first, then those without one.

    Columns: `rank` (of those with a score, 1 the best), `trial` (its number), `baseline` (its name or
    empty), `outcome`, `score` (at the last epoch trained), `epochs`, `network_parameters` (count),
    `seconds` (of training), the details of the run, and a column a parameter of the space, by its name
    (`parameter.NAME` where a fact has that name); empty where a trial has no such parameter.
    """
    trials = ranked(study)
    columns: dict[str, list[Any]] = {name: [] for name in (*FACTS, *DETAILS)}
    for rank, trial in trials:
        for name, value in trial_facts(trial, rank).items():
            columns[name].append(value)
    for name in dict.fromkeys(name for _, trial in trials for name in trial.params):
        column = f"parameter.{name}" if name in columns else name
        columns[column] = [_plain(trial.params.get(name)) for _, trial in trials]
    return _frame(columns).astype({"rank": "Int64", "score": "float64", "network_parameters": "Int64"})


def ranked(study: optuna.Study) -> list[tuple[int | None, optuna.trial.FrozenTrial]]:
    """Trials by score, of equal ones the earlier first, with their ranks; those without a score last."""
    sign = -1.0 if study.direction.name == "MAXIMIZE" else 1.0
    trials = [trial for trial in study.get_trials(deepcopy=False) if "imported" not in trial.user_attrs]
    scores = {trial.number: _score(trial) for trial in trials}
    scored = [trial for trial in trials if scores[trial.number] is not None]
    scored.sort(key=lambda trial: (sign * (scores[trial.number] or 0.0), trial.number))
    others = [trial for trial in trials if scores[trial.number] is None]
    return [*enumerate(scored, 1), *((None, trial) for trial in others)]


def _outcome(trial: optuna.trial.FrozenTrial) -> str:
    # noted before Optuna is told: a crash in between leaves the trial unfinished
    return str(trial.user_attrs.get("outcome", "")) if trial.state.is_finished() else "unfinished"


def _score(trial: optuna.trial.FrozenTrial) -> float | None:
    from search.study import UNSCORED

    last = trial.last_step
    if last is None or _outcome(trial) in UNSCORED:
        return None
    score = float(trial.intermediate_values[last])
    return score if math.isfinite(score) else None


def trial_facts(trial: optuna.trial.FrozenTrial, rank: int | None = None) -> dict[str, Any]:
    """What a row of a table says of a trial, by the names of `FACTS` and `DETAILS`."""
    noted = trial.user_attrs
    return {
        "rank": rank,
        "trial": trial.number,
        "baseline": noted.get("baseline", ""),
        "outcome": _outcome(trial),
        "score": _score(trial),
        "epochs": trial.last_step or 0,
        "network_parameters": noted.get("network_parameters"),
        "seconds": float(noted.get("seconds", 0.0)),
        "precision": noted.get("precision", ""),
        "device": noted.get("device", ""),
        "node": noted.get("node", ""),
        "stints": len(noted.get("stints", ())),
        "error": noted.get("error", ""),
    }


def _plain(value: Any) -> Any:
    """A value of numpy's as Python's own, which every format knows."""
    return value.item() if hasattr(value, "item") else value


def _frame(columns: dict[str, list[Any]]) -> pd.DataFrame:
    """A table whose whole numbers stay whole where some are missing; pandas would make them floats."""
    import pandas as pd

    def column(values: list[Any]) -> Any:
        kinds = {type(value) for value in values if value is not None}
        if kinds == {int}:
            return pd.array(values, dtype="Int64") if None in values else values
        return values if len(kinds) == 1 else pd.Series(values, dtype=object)

    return pd.DataFrame({name: column(values) for name, values in columns.items()})


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
            rows.append({**row, "config": {name: _plain(value) for name, value in trial.params.items()}})
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


CONFIRMED = ("trial", "baseline", "search", "confirmed", "deviation", "gap", "seeds")


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


def render(document: dict[str, Any], form: Format) -> str:
    """A `best_document` in one of the formats, ending with a line break."""
    match form:
        case "json":
            return json.dumps(document, indent=2) + "\n"
        case "yaml":
            import yaml

            return str(yaml.safe_dump(document, sort_keys=False, allow_unicode=True))
        case "csv":
            return str(_wide(document).to_csv(index=False))
        case "latex":
            parts = (_headline(document), document["note"], verdict(document))
            caption = _latex(". ".join(filter(None, parts)))
            return str(_shown(document).to_latex(index=False, escape=True, caption=caption))
        case "html":
            return _page(document)
        case "md":
            text = [f"# {_headline(document)}"]
            if document["note"]:
                text.append(f"**Note:** {document['note']}")
            text += [_sentence(verdict(document)), _markdown(_shown(document))]
            if document["confirmed"]:
                text += ["## Confirmed with new seeds", _markdown(_confirmed(document))]
            best = best_row(document)
            if best is not None:
                text += [f"## Best configuration: trial {best['trial']}", _markdown(_best(document))]
            return "\n\n".join(text) + "\n"


def _headline(document: dict[str, Any]) -> str:
    return (
        f"{document['run']}: space {document['space']} on {document['dataset']}, "
        f"validation {document['metric']}"
    )


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _wide(document: dict[str, Any]) -> pd.DataFrame:
    """A row a trial, a column a parameter; the data set is in every row, so that no row is mistaken."""
    trials = document["trials"]
    columns = {name: [trial[name] for trial in trials] for name in SHOWN}
    columns |= {name: [document[name]] * len(trials) for name in ("dataset", "note")}
    means = {one["trial"]: one["mean"] for one in document["confirmed"]}
    deviations = {one["trial"]: one["deviation"] for one in document["confirmed"]}
    columns["confirmed"] = [means.get(trial["trial"]) for trial in trials]
    columns["confirmed_deviation"] = [deviations.get(trial["trial"]) for trial in trials]
    for name in dict.fromkeys(name for trial in trials for name in trial["config"]):
        column = f"parameter.{name}" if name in columns else name
        columns[column] = [trial["config"].get(name) for trial in trials]
    return _frame(columns)


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


def _shortened(name: str, width: int = 16) -> str:
    # a user's space may name its baselines at any length; the table has to fit the screen
    return name if len(name) <= width else f"{name[: width - 1]}…"


def _shown(document: dict[str, Any]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(shown_rows(document), columns=list(SHOWN))


def _confirmed(document: dict[str, Any]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(confirmed_rows(document), columns=list(CONFIRMED))


def _best(document: dict[str, Any]) -> pd.DataFrame:
    import pandas as pd

    best = best_row(document)
    config = best["config"] if best is not None else {}
    rows = [{"parameter": name, "value": format_value(value)} for name, value in config.items()]
    return pd.DataFrame(rows, columns=["parameter", "value"])


def _markdown(table: pd.DataFrame) -> str:
    escaped = table.map(lambda text: text.replace("|", r"\|"))
    return str(escaped.to_markdown(index=False, disable_numparse=True))


_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        **{sign: rf"\{sign}" for sign in "&%$#_{}"},
    }
)


def _latex(text: str) -> str:
    return text.translate(_LATEX)


def format_score(score: float | None, metric: str) -> str:
    """A score for reading: losses to four digits, the others in percent."""
    if score is None:
        return "-"
    return f"{score:.4f}" if metric == "loss" else f"{100 * score:.2f} %"


def format_value(value: Any) -> str:
    """A parameter's value for reading, four significant digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _page(document: dict[str, Any]) -> str:
    from html import escape

    parts = [_shown(document), *([_confirmed(document)] if document["confirmed"] else []), _best(document)]
    tables = "".join(table.to_html(index=False, escape=True) for table in parts)
    note = f"<p><strong>Note:</strong> {escape(document['note'])}</p>" if document["note"] else ""
    title = escape(_headline(document))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f"<title>{title}</title></head><body><h1>{title}</h1>{note}"
        f"<p>{escape(_sentence(verdict(document)))}</p>{tables}</body></html>\n"
    )
