"""How to repeat a search and go on from it: commands and versions, as facts."""

from __future__ import annotations

import shlex

from search.reporting import facts
from search.reporting.facts import Fact, pointer
from search.reporting.record import Record


def versions(record: Record) -> list[tuple[str, Fact]]:
    """Of Python and the libraries that the search ran with."""
    known = record.settings.get("versions", {})
    return [(name, facts.text("settings:" + pointer("versions", name), known[name])) for name in known]


def commands(record: Record) -> list[tuple[str, Fact]]:
    """What to type, and what for."""
    path = shlex.quote(record.address or str(record.path))
    run = "uv run python -m search."
    storage = record.settings.get("settings", {}).get("study_storage", "auto")
    study = f"sqlite:///{record.path / 'study.db'}" if storage == "auto" else storage
    found = [
        ("read the test part", f"{run}evaluate {path}"),
        ("classify images", f"{run}predict {path} IMAGE ..."),
        ("the table of the best in other formats", f"{run}export {path} --format latex"),
        ("write this page anew", f"{run}report {path}"),
        ("go on with the search, or extend it", f"{run}run --resume {path}"),
    ]
    if not record.address or storage != "auto":  # a file in an object store is no database
        # the driver that this project has, which is not Optuna's own choice
        driver = "--with 'psycopg[binary]' " if study.startswith("postgresql") else ""
        study = study.replace("postgresql://", "postgresql+psycopg://")
        found.append(("the study in optuna-dashboard", f"uvx {driver}optuna-dashboard {shlex.quote(study)}"))
    if not record.address:
        found.append(("the learning curves in TensorBoard", f"uvx tensorboard --logdir {path}/trials"))
    return [(what, facts.text("command:" + what, command)) for what, command in found]
