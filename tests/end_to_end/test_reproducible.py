"""The same seed gives the same search on one slot, and the same trial on any: in fp32, bit for bit."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from search.results import Results
from search.run import run
from search.settings import Settings
from trainables.config import Task
from trainables.data import load_dataset
from trainables.device import pick_device, place
from trainables.seeding import derive_seed
from trainables.training import Training

SEED = 5
TIMES = {"seconds", "validation_seconds", "images_per_second"}


def search(folder: Path, slots: int) -> Results:
    return run(
        Settings(
            space="benchmarks.small_space",
            dataset="digits",
            trials=6,
            max_epochs=3,
            max_concurrent=slots,
            cpus_per_trial=1,
            precision="fp32",
            device="cpu",
            confirm=False,
            seed=SEED,
            storage=folder,
            name="run",
        ),
        console=Console(file=io.StringIO()),
    )


def without_times(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name not in TIMES} for row in rows]


def told(results: Results) -> list[tuple[Any, ...]]:
    """What must be the same of every trial."""
    return [
        (trial.params, trial.user_attrs["outcome"], without_times(trial.user_attrs["epochs"]))
        for trial in results.study.get_trials(deepcopy=False)
    ]


@pytest.mark.slow
def test_a_search_on_one_slot_repeats_itself(shared_ray: None, tmp_path: Path) -> None:
    assert told(search(tmp_path / "one", slots=1)) == told(search(tmp_path / "other", slots=1))


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As a slot of one core has it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.slow
def test_a_trial_of_two_slots_is_repeated_alone(shared_ray: None, one_thread: None, tmp_path: Path) -> None:
    results = search(tmp_path, slots=2)
    number = int(results.trials.loc[results.trials["epochs"].idxmax(), "trial"])
    trial = results.study.get_trials(deepcopy=False)[number]
    recorded = trial.user_attrs["epochs"]
    assert len(recorded) == 3, "it was promoted, so it trained in more than one stay on a slot, or could have"

    document = json.loads(results.folder.settings.read_text(encoding="utf-8"))
    alone = Training(
        results.config_of(number),
        Task(**document["task"]),
        place(load_dataset(document["dataset"], seed=document["settings"]["seed"]), pick_device("cpu")),
        seed=derive_seed(document["settings"]["seed"], "trial", number),
        precision=trial.user_attrs["precision"],
    )
    assert without_times([asdict(report) for report in alone.epochs()]) == without_times(recorded)
