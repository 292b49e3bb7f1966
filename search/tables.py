"""A study as tables: every trial a row, the best few for reading, and the formats people paste elsewhere."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

import optuna

if TYPE_CHECKING:
    import pandas as pd

Format = Literal["md", "csv", "json", "yaml", "latex", "html"]
FACTS = ("rank", "trial", "baseline", "outcome", "score", "epochs", "network_parameters", "seconds")
_TITLES = {"network_parameters": "parameters"}


def trials_table(study: optuna.Study) -> pd.DataFrame:
    """Every trial a row, best score first, then those without one.

    Columns: `rank` (of those with a score, 1 the best), `trial` (its number), `baseline` (its name or
    empty), `outcome`, `score` (at the last epoch trained), `epochs`, `network_parameters` (count),
    `seconds` (of training), the details of the run, and a column a parameter of the space, by its name;
    empty where a trial has no such parameter.
    """
    import pandas as pd

    rows = [_row(trial) for trial in study.get_trials(deepcopy=False)]
    names: dict[str, None] = {}
    for trial in study.get_trials(deepcopy=False):
        names.update(dict.fromkeys(trial.params))
    details = ("precision", "device", "node", "stints", "error")
    table = pd.DataFrame(rows, columns=[*FACTS, *details, *names])
    falling = study.direction == optuna.study.StudyDirection.MAXIMIZE
    table = table.sort_values(["score", "trial"], ascending=[not falling, True], na_position="last")
    scored = table["score"].notna()
    table["rank"] = pd.array([None] * len(table), dtype="Int64")
    table.loc[scored, "rank"] = range(1, int(scored.sum()) + 1)
    return table.reset_index(drop=True)


def _row(trial: optuna.trial.FrozenTrial) -> dict[str, Any]:
    facts = trial.user_attrs
    outcome = facts.get("outcome", "unfinished")
    healthy = outcome not in ("diverged", "infeasible")
    last = trial.last_step
    return {
        "trial": trial.number,
        "baseline": facts.get("baseline", ""),
        "outcome": outcome,
        "score": trial.intermediate_values[last] if healthy and last is not None else None,
        "epochs": last or 0,
        "network_parameters": facts.get("network_parameters"),
        "seconds": facts.get("seconds", 0.0),
        "precision": facts.get("precision", ""),
        "device": facts.get("device", ""),
        "node": facts.get("node", ""),
        "stints": facts.get("stints", 0),
        "error": facts.get("error", ""),
        **trial.params,
    }


def leaders(table: pd.DataFrame, top: int) -> pd.DataFrame:
    """The `top` best rows and every baseline, best first, with the columns of `FACTS` alone."""
    chosen = (table["rank"] <= top).fillna(False) | (table["baseline"] != "")
    return table.loc[chosen, list(FACTS)].rename(columns=_TITLES)


def parameters_of(table: pd.DataFrame, row: int) -> dict[str, Any]:
    """The parameters that a trial has, by name, in the order in which the space asks for them."""
    start = list(table.columns).index("error") + 1
    values = table.iloc[row, start:].dropna()
    return {str(name): _plain(value) for name, value in values.items()}


def best_document(study: optuna.Study, top: int) -> dict[str, Any]:
    """The best `top` trials, and every baseline, as JSON types; what the run says of itself first."""
    table = trials_table(study)
    chosen = leaders(table, top)
    return {
        **{key: study.user_attrs.get(key, "") for key in ("run", "space", "dataset", "note", "metric")},
        "direction": study.direction.name.lower(),
        "trials": [
            {
                **{name: _plain(value) for name, value in chosen.loc[index].items()},
                "config": parameters_of(table, int(index)),
            }
            for index in chosen.index
        ],
    }


def _plain(value: Any) -> Any:
    """A cell as a JSON type; whole numbers that pandas made floats are whole again."""
    import pandas as pd

    if bool(pd.isna(value)):
        return None
    if hasattr(value, "item"):
        value = value.item()
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value


def render(study: optuna.Study, form: Format, top: int) -> str:
    """The best `top` trials and every baseline in one of the formats, ending with a line break."""
    document = best_document(study, top)
    match form:
        case "json":
            return json.dumps(document, indent=2) + "\n"
        case "yaml":
            import yaml

            return str(yaml.safe_dump(document, sort_keys=False, allow_unicode=True))
        case "csv":
            return str(_wide(document).to_csv(index=False))
        case "latex":
            return str(_shown(document).to_latex(index=False, escape=True))
        case "html":
            body = _shown(document).to_html(index=False, escape=True) + _best(document).to_html(
                index=False, escape=True
            )
            return _page(document, body)
        case "md":
            parts = [f"# {_headline(document)}"]
            if document["note"]:
                parts.append(f"**Note:** {document['note']}")
            parts.append(_shown(document).to_markdown(index=False, disable_numparse=True))
            if document["trials"]:
                parts.append(f"## Best configuration: trial {document['trials'][0]['trial']}")
                parts.append(_best(document).to_markdown(index=False, disable_numparse=True))
            return "\n\n".join(parts) + "\n"


def _headline(document: dict[str, Any]) -> str:
    return (
        f"{document['run']}: space {document['space']} on {document['dataset']}, "
        f"validation {document['metric']}"
    )


def _wide(document: dict[str, Any]) -> pd.DataFrame:
    """A row a trial, a column a parameter; the data set is in every row, so that no row is mistaken."""
    import pandas as pd

    rows = [
        {
            **{k: v for k, v in trial.items() if k != "config"},
            "dataset": document["dataset"],
            **trial["config"],
        }
        for trial in document["trials"]
    ]
    return pd.DataFrame(rows)


def shown_rows(document: dict[str, Any]) -> list[dict[str, str]]:
    """The leading trials as text for reading."""
    return [
        {
            "rank": str(trial["rank"] or "-"),
            "trial": str(trial["trial"]),
            "baseline": trial["baseline"],
            "outcome": trial["outcome"],
            "score": format_score(trial["score"], document["metric"]),
            "epochs": str(trial["epochs"]),
            "parameters": f"{trial['parameters']:,}" if trial["parameters"] else "-",
            "seconds": f"{trial['seconds']:.0f}",
        }
        for trial in document["trials"]
    ]


def _shown(document: dict[str, Any]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(shown_rows(document))


def _best(document: dict[str, Any]) -> pd.DataFrame:
    import pandas as pd

    config = document["trials"][0]["config"] if document["trials"] else {}
    rows = [{"parameter": name, "value": format_value(value)} for name, value in config.items()]
    return pd.DataFrame(rows, columns=["parameter", "value"])


def format_score(score: float | None, metric: str) -> str:
    """A score for reading: losses to four digits, the others in percent."""
    if score is None:
        return "-"
    return f"{score:.4f}" if metric == "loss" else f"{100 * score:.2f} %"


def format_value(value: Any) -> str:
    """A parameter's value for reading, four significant digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _page(document: dict[str, Any], body: str) -> str:
    from html import escape

    note = f"<p><strong>Note:</strong> {escape(document['note'])}</p>" if document["note"] else ""
    title = escape(_headline(document))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f"<title>{title}</title></head><body><h1>{title}</h1>{note}{body}</body></html>\n"
    )
