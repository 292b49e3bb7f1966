"""report.html: one file that says what a search found, how sure that is, and how it came about.

from search.reporting.page import write_report
from search.results import Results

write_report(Results("results/NAME"))
"""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from search.reporting import candidates, facts, repeat, tested
from search.reporting.derived import importances
from search.reporting.drawing import Figure, templates
from search.reporting.parameter_figures import parallel_coordinates, parameter_importance
from search.reporting.pictures import write_pictures
from search.reporting.record import Record, read_record
from search.reporting.score_figures import curves_by_outcome, score_over_time, survivors
from search.reporting.time_figures import slots_over_time, time_spent
from search.reporting.winner_figures import confusion, learning_curves

if TYPE_CHECKING:
    from search.results import Results

HERE = Path(__file__).parent


def write_report(results: Results) -> Path:
    """Write report.html, confusion_matrix.png (unless it is there) and learning_curves.png into the run
    folder, from the record as it stands; returns the page's path.

    A figure that cannot be drawn is left out, and the page says why. Raises UsageError where a file of the
    run is not what it should be, and OSError where nothing can be written.
    """
    record = read_record(results)
    write_pictures(record)
    results.folder.write("report.html", render(record))
    return results.folder.path / "report.html"


def render(record: Record) -> str:
    """The page."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from plotly.offline import get_plotlyjs

    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    library, script = get_plotlyjs(), (HERE / "page.js").read_text(encoding="utf-8")
    return environment.get_template("page.html").render(
        **_content(record),
        style=_trusted((HERE / "page.css").read_text(encoding="utf-8")),
        library=_trusted(library),
        script=_trusted(script),
        templates=templates(),
        # a browser runs these two scripts and no other, and asks no network for anything
        policy=f"default-src 'none'; style-src 'unsafe-inline'; img-src data: blob:; "
        f"script-src {_digest(library)} {_digest(script)}; base-uri 'none'; form-action 'none'",
    )


def _content(record: Record) -> dict[str, Any]:
    shown = candidates.candidates(record)
    stopped = str(record.attributes.get("stopped", "running"))
    return {
        "run": candidates.search_fact(record, "run"),
        "space": candidates.search_fact(record, "space"),
        "dataset": candidates.search_fact(record, "dataset"),
        "note": candidates.search_fact(record, "note"),
        "metric": candidates.search_fact(record, "metric"),
        "stopped": facts.text("search:stopped", stopped),
        "is_finished": stopped == "finished",
        "winner": next((one for one in shown if one.winner), None),
        "candidates": shown,
        "confirmed": facts.count("count:confirmed", len(record.confirmed)),
        "as_good": candidates.runner_up_is_as_good(record),
        "parameters": candidates.settings_table(record, shown),
        "leading": candidates.leading(record),
        "outcomes": candidates.outcomes(record),
        "trained": facts.count("count:trained", sum(bool(t.intermediate_values) for t in record.trials)),
        "epochs": facts.count("count:epochs", sum(len(t.intermediate_values) for t in record.trials)),
        "seconds": facts.duration("search:seconds", record.attributes.get("seconds")),
        "tested": tested.tested(record),
        "test_columns": tested.TEST_COLUMNS,
        "confusion": confusion(record),
        "winner_curves": learning_curves(record),
        "search_figures": _search_figures(record),
        "command": facts.text("settings:/command", record.settings.get("command")),
        "seed": facts.text("settings:/settings/seed", record.settings.get("settings", {}).get("seed")),
        "commands": dict(repeat.commands(record)),
        "versions": repeat.versions(record),
    }


def _search_figures(record: Record) -> list[Figure]:
    found = importances(record.trials, record.maximize)
    return [
        score_over_time(record),
        curves_by_outcome(record),
        survivors(record),
        slots_over_time(record),
        parallel_coordinates(record, found),
        parameter_importance(found),
        time_spent(record),
    ]


def _trusted(source: str) -> Markup:
    """What this project or plotly wrote, to stand in the page as it is; nothing of a run."""
    return Markup(source)  # noqa: S704  style and scripts, of files that are installed


def _digest(script: str) -> str:
    digest = hashlib.sha256(script.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"
