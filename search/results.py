"""The run folder: where everything of one search lies, and what a finished search hands back."""

from __future__ import annotations

import json
import os
import platform
import secrets
import shutil
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.formats import check_database_address
from search.settings import UsageError

if TYPE_CHECKING:
    import optuna
    import pandas as pd

    from search.final import Confirmed
    from search.preflight import Prepared
    from trainables.classifier import Classifier
    from trainables.config import TrialConfig
    from trainables.place import Folder


@dataclass(frozen=True)
class RunFolder:
    """The paths of one run."""

    path: Path
    """On this machine: the record, and what the driver and the commands write."""
    address: str = ""
    """Where the run is kept, if that is an object store: all of `path` is copied there, and checkpoints and
    events are nowhere else."""

    @property
    def location(self) -> Path | str:
        """What a user calls the run by."""
        return self.address or self.path

    @property
    def storage(self) -> Path | str:
        """The folder that the run's folder lies in, as `--storage` names it."""
        return self.address.rpartition("/")[0] if self.address else self.path.parent

    def shown(self, name: str) -> str:
        """What a user calls a file of the run by."""
        return f"{self.address}/{name}" if self.address else str(self.path / name)

    @property
    def checkpoints(self) -> Folder:
        """The folder that checkpoints and events go below."""
        if not self.address:
            return self.path
        from trainables.remote import RemotePlace

        return RemotePlace(self.address)

    @property
    def drivers(self) -> list[str]:
        """A word for each driver that ever worked on the run, its own; the last one works on it now."""
        try:
            drivers: list[str] = json.loads(self.settings.read_text(encoding="utf-8"))["drivers"]
        except (OSError, ValueError, KeyError):
            return []
        return drivers

    @property
    def sitting(self) -> int:
        """How many drivers worked on the run before that one."""
        return max(0, len(self.drivers) - 1)

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

    def trial(self, number: int) -> Folder:
        """A trial's checkpoints and TensorBoard events."""
        return self.checkpoints / "trials" / f"{number:05d}"

    def write(self, name: str, text: str) -> None:
        """Write a file whole or not at all."""
        temporary = self.path / f"{name}.tmp"
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(self.path / name)

    def write_json(self, name: str, document: Any) -> None:
        """Write a JSON file whole or not at all."""
        self.write(name, json.dumps(document, indent=2) + "\n")


def study_name(folder: RunFolder) -> str | None:
    """Name of the run's study in a database of many; None where settings.json does not say."""
    try:
        name: str | None = json.loads(folder.settings.read_text(encoding="utf-8")).get("study")
    except (OSError, ValueError):
        return None
    return name


def open_study(folder: RunFolder) -> optuna.Study:
    """The study of a run, wherever it lies, for reading. Raises ValueError where there is none."""
    from search.database import load_study, load_study_at

    try:
        document = json.loads(folder.settings.read_text(encoding="utf-8"))
        url = str(document["settings"]["study_storage"])
    except (OSError, ValueError, KeyError):
        url = "auto"
    if url == "auto":
        return load_study(folder.database)
    check_database_address(url)  # the run may come from elsewhere, and name any file
    return load_study_at(url, study_name(folder))


def has_begun(folder: RunFolder, storage: str) -> bool:
    """Whether the run's study is there whole, in its folder (`auto`) or in the database at `storage`."""
    from search.database import load_study, load_study_at
    from search.study import BEGUN

    try:
        study = (
            load_study(folder.database) if storage == "auto" else load_study_at(storage, study_name(folder))
        )
    except ValueError:
        return False
    return BEGUN in study.user_attrs


def write_tables(results: Results, top: int) -> None:
    """Write best.md, best.csv, best.json and trials.csv from the study as it stands."""
    from search.table_formats import render

    document = results.document(top)
    for form in ("md", "csv", "json"):
        results.folder.write(f"best.{form}", render(document, form))
    results.folder.write("trials.csv", results.trials.to_csv(index=False))


def make_folder(prepared: Prepared, hashes: dict[str, str]) -> None:
    """Make the run folder with settings.json in it; where the process dies, there are both or neither.

    Raises UsageError where it is there already, or cannot be made.
    """
    path = prepared.folder.path
    begun = RunFolder(path.with_name(f".{path.name}.{os.getpid()}"))
    try:
        begun.path.mkdir(parents=True)
        write_settings(prepared, hashes, begun)
        begun.path.rename(path)  # refused by every system where `path` holds anything
    except OSError as error:
        if path.is_dir():
            raise UsageError(f"a run is there already: {path}; choose another --name") from error
        raise UsageError(f"{path} cannot be made: {error.strerror}") from error
    finally:
        shutil.rmtree(begun.path, ignore_errors=True)


def write_settings(prepared: Prepared, hashes: dict[str, str], folder: RunFolder) -> None:
    """Write into a folder what was asked, on which data and with which versions; `hashes` of what must stay
    the same.

    The study keeps the name it was made with, whatever the run's folder is called by now.
    """
    from search.command_line import command_for

    dataset = prepared.dataset
    folder.write_json(
        folder.settings.name,
        {
            # a run of the same name would be refused
            "command": command_for(replace(prepared.settings, name="auto")),
            "settings": prepared.settings.to_json(),
            "study": study_name(folder) or prepared.folder.path.name,
            # before any work is given out, so that no two drivers call a checkpoint the same
            "drivers": [*folder.drivers, secrets.token_hex(8)],
            "dataset": dataset.name,
            "note": dataset.note,
            "class_names": dataset.class_names,
            "task": asdict(prepared.task),
            "mean": dataset.mean,
            "std": dataset.std,
            "hashes": hashes,
            "versions": {
                "python": platform.python_version(),
                **{name: metadata.version(name) for name in ("torch", "ray", "optuna", "numpy")},
            },
        },
    )


class Results:
    """What a search found. Also opens a run of another day: `Results("results/NAME")`, or at an address."""

    def __init__(self, folder: RunFolder | Path | str) -> None:
        if isinstance(folder, str) and "://" in folder:
            from search.copies import MODELS, downloaded, location_of

            where = location_of(folder)
            if isinstance(where, str):
                # the copy is gone with this object
                folder, self._copy = downloaded(where, MODELS)
            else:
                folder = where
        self.folder = folder if isinstance(folder, RunFolder) else RunFolder(Path(folder))
        self.study: optuna.Study = open_study(self.folder)

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
        from search.best_document import best_row

        return best_row(self.document(1)) is not None

    @property
    def confirmed(self) -> list[Confirmed]:
        """Configurations that were trained anew with other seeds, best first (see `search.final`)."""
        from search.final import confirmed

        return confirmed(self)

    def document(self, top: int) -> dict[str, Any]:
        """The best `top` trials, the baselines and what was confirmed, see `search.best_document`."""
        from search.best_document import best_document
        from search.final import confirmation

        return best_document(self.study, top, confirmation(self))

    @property
    def best(self) -> dict[str, Any]:
        """Number, score, epochs and parameters of the best trial: of those confirmed, or else of all.

        Raises ValueError where none has a score.
        """
        from search.best_document import best_row

        best = best_row(self.document(1))
        if best is None:
            raise ValueError(f"{self.folder.location} has no trial with a score")
        return best

    @property
    def best_config(self) -> TrialConfig:
        """The configuration of the best trial, ready to build and train."""
        return self.config_of(self.best["trial"])

    def config_of(self, number: int) -> TrialConfig:
        """The configuration of a trial."""
        from trainables.config import from_json

        return from_json(self.study.get_trials(deepcopy=False)[number].user_attrs["config"])

    def best_model(self) -> Classifier:
        """The best trial's network, loaded and ready to predict."""
        from trainables.classifier import load_classifier

        return load_classifier(self.folder.best)


def nearest_existing(path: Path) -> Path:
    """`path`, or else the nearest folder above it that is there; a link that leads nowhere is there."""
    while not (path.exists() or path.is_symlink()):
        path = path.parent
    return path


def free_bytes(path: Path) -> int:
    """Free space of the disk that `path` lies on, or will lie on."""
    return shutil.disk_usage(nearest_existing(path)).free
