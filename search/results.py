"""The run folder: where everything of one search lies, and what a finished search hands back."""

from __future__ import annotations

import json
import platform
import shutil
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.settings import UsageError
from search.study import load_study

if TYPE_CHECKING:
    import optuna
    import pandas as pd

    from search.preflight import Prepared
    from trainables.classifier import Classifier
    from trainables.config import TrialConfig

KEEP_BEST = 3


@dataclass(frozen=True)
class RunFolder:
    """The paths of one run."""

    path: Path

    @property
    def database(self) -> Path:
        """The study."""
        return self.path / "study.db"

    @property
    def settings(self) -> Path:
        """What was asked, versions, and the command that repeats it."""
        return self.path / "settings.json"

    @property
    def best(self) -> Path:
        """The best model and its configuration."""
        return self.path / "best"

    def trial(self, number: int) -> Path:
        """A trial's checkpoints and TensorBoard events."""
        return self.path / "trials" / f"{number:05d}"

    def write(self, name: str, text: str) -> None:
        """Write a file whole or not at all."""
        temporary = self.path / f"{name}.tmp"
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(self.path / name)

    def write_json(self, name: str, document: Any) -> None:
        """Write a JSON file whole or not at all."""
        self.write(name, json.dumps(document, indent=2) + "\n")


def write_tables(folder: RunFolder, study: optuna.Study, top: int) -> None:
    """Write best.md, best.csv, best.json and trials.csv from the study as it stands."""
    from search.tables import render, trials_table

    for form in ("md", "csv", "json"):
        folder.write(f"best.{form}", render(study, form, top))
    folder.write("trials.csv", trials_table(study).to_csv(index=False))


def write_settings(prepared: Prepared) -> None:
    """Make the run folder, and write what was asked, on which data and with which versions.

    Raises UsageError where the folder is there already.
    """
    from search.command_line import command_for

    folder, dataset = prepared.folder, prepared.dataset
    try:
        folder.path.mkdir(parents=True)
    except FileExistsError as error:
        raise UsageError(f"a run is there already: {folder.path}; choose another --name") from error
    folder.write_json(
        folder.settings.name,
        {
            "command": command_for(prepared.settings),
            "settings": prepared.settings.to_json(),
            "dataset": dataset.name,
            "note": dataset.note,
            "class_names": dataset.class_names,
            "task": asdict(prepared.task),
            "mean": dataset.mean,
            "std": dataset.std,
            "data_fingerprint": dataset.fingerprint,
            "versions": {
                "python": platform.python_version(),
                **{name: metadata.version(name) for name in ("torch", "ray", "optuna", "numpy")},
            },
        },
    )


def drop_checkpoints(folder: RunFolder, numbers: set[int]) -> None:
    """Delete the checkpoints of trials that cannot go on and are not among the best."""
    from trainables import checkpoint

    for number in numbers:
        checkpoint.remove(folder.trial(number))


def keep_best_model(prepared: Prepared, results: Results) -> None:
    """Write best/ from the best trial's last checkpoint; nothing where no trial has a score."""
    from trainables import checkpoint
    from trainables.classifier import save_classifier

    if not results.has_best:
        return
    best = results.best
    state = checkpoint.load(results.folder.trial(best["trial"]))
    if state is None:
        return  # stopped before its first checkpoint
    save_classifier(
        results.folder.best,
        state["scored"],
        results.best_config,
        prepared.task,
        prepared.dataset.class_names,
        prepared.dataset.mean,
        prepared.dataset.std,
        about={
            "run": results.folder.path.name,
            "dataset": prepared.dataset.name,
            "note": prepared.dataset.note,
            "trial": best["trial"],
            "epochs": state["training"]["epoch"],
            "metric": prepared.settings.metric,
            "validation": state["reports"][-1],
        },
    )


class Results:
    """What a search found. Also opens a run of another day: `Results("results/NAME")`."""

    def __init__(self, folder: Path | str) -> None:
        self.folder = RunFolder(Path(folder))
        self.study: optuna.Study = load_study(self.folder.database)

    @property
    def trials(self) -> pd.DataFrame:
        """Every trial a row, best first (see `search.tables.trials_table`)."""
        from search.tables import trials_table

        return trials_table(self.study)

    @property
    def stopped(self) -> str:
        """What ended the search: finished, time budget, interrupted, failed; running while it runs."""
        return str(self.study.user_attrs.get("stopped", "running"))

    @property
    def has_best(self) -> bool:
        """Whether any trial has a score."""
        from search.tables import best_document

        trials = best_document(self.study, 1)["trials"]
        return bool(trials) and trials[0]["score"] is not None

    @property
    def best(self) -> dict[str, Any]:
        """Number, score, epochs and parameters of the best trial. ValueError where none has a score."""
        from search.tables import best_document

        if not self.has_best:
            raise ValueError(f"{self.folder.path} has no trial with a score")
        best: dict[str, Any] = best_document(self.study, 1)["trials"][0]
        return best

    @property
    def best_config(self) -> TrialConfig:
        """The configuration of the best trial, ready to build and train."""
        from trainables.config import from_json

        return from_json(self.study.get_trials(deepcopy=False)[self.best["trial"]].user_attrs["config"])

    def best_model(self) -> Classifier:
        """The best trial's network, loaded and ready to predict."""
        from trainables.classifier import load_classifier

        return load_classifier(self.folder.best)


def free_bytes(path: Path) -> int:
    """Free space of the disk that `path`, or the nearest folder above it that exists, lies on."""
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free
