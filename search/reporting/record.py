"""Everything that the page is made of, read once: the studies, the settings and the evaluation."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.final import CONFIRM, REFIT, Confirmed, confirmed, final_study
from search.settings import UsageError

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from search.results import Results, RunFolder

LEADING = 10
"""Trials in the list of the best."""


@dataclass(frozen=True)
class Record:
    """One run, as it stands."""

    path: Path
    """Where what is made of it is written."""
    attributes: dict[str, Any]
    """Of the study: run, space, dataset, note, metric, stopped."""
    maximize: bool
    trials: list[FrozenTrial]
    """Of this search, by number; none that it imported from another one."""
    document: dict[str, Any]
    """The leading trials and every baseline, as `search.best_document` has them."""
    settings: dict[str, Any]
    """settings.json; empty where there is none."""
    confirmed: list[Confirmed]
    """Best mean first."""
    final_trials: dict[str, list[FrozenTrial]]
    """Runs of the studies `confirm` and `refit`."""
    evaluation: dict[str, Any] | None
    """evaluation.json; None where nothing has been evaluated."""
    address: str = ""
    """Where the run is kept, if that is an object store."""

    @property
    def metric(self) -> str:
        """accuracy, macro_f1 or loss."""
        return str(self.attributes.get("metric", "accuracy"))

    @property
    def max_epochs(self) -> int | None:
        """Epochs of a trial that is never stopped."""
        epochs = self.settings.get("task", {}).get("max_epochs")
        return int(epochs) if epochs is not None else None

    @cached_property
    def by_number(self) -> dict[int, FrozenTrial]:
        """The trials of this search."""
        return {trial.number: trial for trial in self.trials}

    @property
    def winner(self) -> int | None:
        """The trial whose configuration is best: confirmed, or else by its score; None without one."""
        if self.confirmed:
            return self.confirmed[0].trial
        rows = self.document["trials"]
        return rows[0]["trial"] if rows and rows[0]["rank"] is not None else None

    @property
    def tested(self) -> list[tuple[int, dict[str, Any]]]:
        """Each evaluated model and its place in evaluation.json."""
        return [] if self.evaluation is None else list(enumerate(self.evaluation["models"]))

    @property
    def tested_winner(self) -> tuple[int, dict[str, Any]] | None:
        """The first evaluated model of the winner; None where none was."""
        return next((item for item in self.tested if item[1]["winner"]), None)


def read_record(results: Results) -> Record:
    """Read a run. Raises UsageError where one of its files is not what it should be."""
    study = results.study
    own = [trial for trial in study.get_trials(deepcopy=False) if "imported" not in trial.user_attrs]
    final = {}
    for kind in (CONFIRM, REFIT):
        found = final_study(results, kind)
        final[kind] = [] if found is None else found.get_trials(deepcopy=False)
    evaluation = _read_json(results.folder, "evaluation.json")
    if evaluation is not None and not isinstance(evaluation.get("models"), list):
        raise UsageError(f"{results.folder.path / 'evaluation.json'} holds no list of models; evaluate anew")
    return Record(
        path=results.folder.path,
        address=results.folder.address,
        attributes=dict(study.user_attrs),
        maximize=study.direction.name == "MAXIMIZE",
        trials=own,
        document=results.document(LEADING),
        settings=_read_json(results.folder, results.folder.settings.name) or {},
        confirmed=confirmed(results),
        final_trials=final,
        evaluation=evaluation,
    )


def _read_json(folder: RunFolder, name: str) -> dict[str, Any] | None:
    try:
        document: dict[str, Any] = json.loads((folder.path / name).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UsageError(f"{folder.path / name} cannot be read: {error}") from error
    if not isinstance(document, dict):
        raise UsageError(f"{folder.path / name} must hold a JSON object")
    return document
