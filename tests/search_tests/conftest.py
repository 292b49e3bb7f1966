import importlib
import math
import sys
import textwrap
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from search.database import open_storage, sqlite_url
from search.results import RunFolder
from search.study import Outcome, StudyRecord

ATTRIBUTES = {"run": "mine", "space": "cnn", "dataset": "digits", "note": "", "metric": "accuracy"}


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Writes a file into the current directory, tmp_path; modules from there are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    before = set(sys.modules)

    def write(name: str, source: str) -> Path:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(source), encoding="utf-8")
        importlib.invalidate_caches()
        return file

    yield write
    for name in set(sys.modules) - before:
        origin = getattr(sys.modules[name], "__file__", None) or ""
        if origin.startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
def images(tmp_path: Path) -> Callable[..., Path]:
    """Makes a data set: so many random images in train/<class>/."""
    import numpy as np
    from PIL import Image

    def make(name: str = "images", size: int = 32, **classes: int) -> Path:
        root = tmp_path / name
        for number, (class_name, count) in enumerate((classes or {"cat": 6, "dog": 6}).items()):
            folder = root / "train" / class_name
            folder.mkdir(parents=True)
            pixels = np.random.default_rng(number).integers(0, 256, (count, size, size, 3), np.uint8)
            for position, image in enumerate(pixels):
                Image.fromarray(image).save(folder / f"{position}.png")
        return root

    return make


def _new_trial(
    record: StudyRecord,
    params: Mapping[str, Any],
    scores: Mapping[int, float] | None = None,
    outcome: Outcome | None = None,
    baseline: str = "",
    **attributes: Any,
) -> int:
    """A trial with these parameters, scores by epoch, and outcome (None: unfinished); returns its number."""
    import optuna

    def suggest(trial: optuna.Trial) -> None:
        for name, value in params.items():
            if isinstance(value, float):
                trial.suggest_float(name, value - 1, value + 1)
            elif isinstance(value, int) and not isinstance(value, bool):
                trial.suggest_int(name, value - 1, value + 1)
            else:
                trial.suggest_categorical(name, [value])

    number, _ = record.ask(optuna.samplers.RandomSampler(seed=0), suggest, (baseline, params))
    record.begin(number, attributes)
    for epoch, score in (scores or {}).items():
        record.report(number, epoch, score)
    if outcome is not None:
        last = list((scores or {}).values())[-1] if outcome == "complete" else None
        record.tell(number, outcome, last)
    return number


@pytest.fixture
def new_trial() -> Callable[..., int]:
    return _new_trial


@pytest.fixture
def without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """No Ray comes up: for what is decided before anything trains."""
    import search.early_ray

    monkeypatch.setattr(search.early_ray, "early_ray", lambda *_, **__: nullcontext(lambda: None))


@pytest.fixture
def record() -> StudyRecord:
    record = StudyRecord("mine", "maximize")
    record.set_attributes(ATTRIBUTES)
    return record


@pytest.fixture(scope="session")
def new_database(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], None]:
    """Makes an empty database by copying one: Optuna takes half a second for each."""
    template = tmp_path_factory.mktemp("template") / "study.db"
    open_storage(sqlite_url(template)).engine.dispose()
    return lambda path: path.write_bytes(template.read_bytes())


@pytest.fixture
def run_folder(tmp_path: Path, new_database: Callable[[Path], None]) -> RunFolder:
    """A run of another process's day: two scored trials and one that still trains."""
    folder = RunFolder(tmp_path / "results" / "mine")
    folder.path.mkdir(parents=True)
    new_database(folder.database)
    record = StudyRecord("mine", "maximize", sqlite_url(folder.database))
    record.set_attributes({**ATTRIBUTES, "note": "digits, not CIFAR-10: no network"})
    _new_trial(record, {"lr": 0.5, "width": 8}, {1: 0.6, 3: 0.7}, "pruned", network_parameters=1000)
    _new_trial(record, {"lr": 0.25, "width": 9}, {1: 0.8, 3: 0.9}, "complete", seconds=12.0)
    _new_trial(record, {"lr": 0.125, "width": 7}, {1: 0.65})
    record.close()
    return folder


@pytest.fixture
def follow(monkeypatch):
    """Runs train nothing and do as a script says; see `scripted_engine`."""
    from scripted_engine import install

    return install(monkeypatch)


NOTE = "digits, not CIFAR-10: no network & 50 % of _nothing_"


@pytest.fixture
def various(record, new_trial):
    """One of each outcome; 2 is best, 1 and 5 are equal, and two are baselines."""
    record.set_attributes({"note": NOTE})
    new_trial(record, {"lr": 0.5, "width": 8}, {1: 0.9, 3: 0.6}, "pruned", "plain", network_parameters=10)
    new_trial(record, {"lr": 0.25, "width": 9}, {1: 0.7}, None)
    new_trial(record, {"lr": 1.0, "depth": 2}, {1: 0.5, 3: 0.8}, "complete", seconds=61.5)
    new_trial(record, {"lr": 0.5}, {1: 0.99, 3: math.nan}, "diverged")
    new_trial(record, {"lr": 0.5}, {}, "infeasible", error="too large")
    new_trial(record, {"lr": 0.5, "width": 7}, {1: 0.7}, "pruned")
    new_trial(record, {"lr": 0.5}, {1: 0.98}, "failed", "deep", error="Trace\nback")
    return record.study
