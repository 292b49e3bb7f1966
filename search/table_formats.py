"""A `best_document` in the formats that people paste elsewhere."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

from search.best_document import CONFIRMED, SHOWN, best_row, confirmed_rows, shown_rows, verdict
from search.formats import format_value
from search.tables import frame

if TYPE_CHECKING:
    import pandas as pd

Format = Literal["md", "csv", "json", "yaml", "latex", "html"]


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
    columns["verdict"] = [verdict(document)] * len(trials)
    means = {one["trial"]: one["mean"] for one in document["confirmed"]}
    deviations = {one["trial"]: one["deviation"] for one in document["confirmed"]}
    columns["confirmed"] = [means.get(trial["trial"]) for trial in trials]
    columns["confirmed_deviation"] = [deviations.get(trial["trial"]) for trial in trials]
    for name in dict.fromkeys(name for trial in trials for name in trial["config"]):
        column = f"parameter.{name}" if name in columns else name
        columns[column] = [trial["config"].get(name) for trial in trials]
    return frame(columns)


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
