"""What a new search takes over from an earlier one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from search.controller import Controller, Plan
from search.database import sqlite_url
from search.results import RunFolder
from search.sampler import samplers
from search.settings import Settings, UsageError
from search.study import StudyRecord
from search.tables import trials_table
from search.transfer import FIRST, Transfer, transfer_from
from spaces import Space
from trainables.config import Task

TASK = Task(image_size=8, classes=2, train_images=100, max_epochs=3)
HASHES = {"data": "d", "space": "s", "code": "c"}


def suggest(trial: optuna.Trial, task: Task) -> dict[str, Any]:
    params = {"lr": trial.suggest_float("lr", 0, 1), "width": trial.suggest_int("width", 1, 8)}
    if params["width"] > task.image_size:
        raise ValueError("too wide")
    return params


SPACE = Space(name="mine", module="mine", suggest=suggest, baselines={})


@pytest.fixture
def earlier(tmp_path: Path, new_database: Callable[[Path], None]) -> Path:
    """A run of nine trials that ended in every way."""
    folder = RunFolder(tmp_path / "earlier")
    folder.path.mkdir()
    settings = Settings(space="mine").to_json()
    document = {"settings": settings, "dataset": "digits", "task": asdict(TASK), "hashes": HASHES}
    folder.write_json("settings.json", document)
    new_database(folder.database)
    record = StudyRecord("earlier", "maximize", sqlite_url(folder.database))
    for number in range(9):
        asked, _ = record.ask(optuna.samplers.RandomSampler(seed=number), lambda trial: suggest(trial, TASK))
        record.begin(asked, {})
        record.report(asked, 1, 0.1 * number)
    record.tell(0, "diverged")
    record.tell(1, "pruned")
    record.report(8, 3, 0.95)
    record.tell(8, "complete", 0.95)
    record.close()
    return folder.path


def test_the_best_come_first_and_every_score_is_learnt_from(earlier: Path) -> None:
    transfer = transfer_from(earlier, SPACE, TASK, "accuracy", HASHES)
    assert list(transfer.first) == [f"earlier/{number}" for number in (8, 7, 6, 5, 4)][:FIRST]
    assert [trial.user_attrs["imported"] for trial in transfer.trials] == [f"earlier/{n}" for n in range(9)]
    assert transfer.trials[8].intermediate_values == {1: pytest.approx(0.8), 3: 0.95}
    assert {t.state for t in transfer.trials} == {TrialState.PRUNED, TrialState.COMPLETE}
    assert transfer.trials[0].constraints == {"finite": 1.0}
    assert "the sampler learns from 9 trials" in transfer.note


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"hashes": {**HASHES, "data": "other"}}, "another data set"),
        ({"hashes": {**HASHES, "code": "other"}}, "another training code"),
        ({"task": replace(TASK, max_epochs=9)}, "another task"),
        ({"metric": "loss"}, "another metric"),
    ],
)
def test_scores_that_mean_something_else_are_not_learnt_from(
    earlier: Path, changes: dict[str, Any], named: str
) -> None:
    asked = {"space": SPACE, "task": TASK, "metric": "accuracy", "hashes": HASHES, **changes}
    transfer = transfer_from(earlier, **asked)
    assert transfer.trials == []
    assert len(transfer.first) == FIRST
    assert named in transfer.note


def test_configurations_that_do_not_fit_the_task_are_left_out(earlier: Path) -> None:
    small = replace(TASK, image_size=4)
    transfer = transfer_from(earlier, SPACE, small, "accuracy", HASHES)
    assert transfer.first
    assert all(params["width"] <= 4 for params in transfer.first.values())


def test_another_space_or_no_run_is_refused(earlier: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--start-from .*earlier searched space mine"):
        transfer_from(earlier, SPACE, TASK, "accuracy", {**HASHES, "space": "other"})
    with pytest.raises(UsageError, match="--start-from: there is no run in"):
        transfer_from(tmp_path / "none", SPACE, TASK, "accuracy", HASHES)


def begun(transfer: Transfer, path: Path | None = None) -> StudyRecord:
    record = StudyRecord("later", "maximize", None if path is None else sqlite_url(path))
    record.add_imported(transfer.trials)
    return record


@pytest.mark.parametrize("sampler", ["multifidelity", "tpe", "random"])
def test_imported_trials_count_for_the_sampler_alone(
    earlier: Path, tmp_path: Path, new_database: Callable[[Path], None], sampler: str
) -> None:
    transfer = transfer_from(earlier, SPACE, TASK, "accuracy", HASHES)
    plan = Plan(min_epochs=1, max_epochs=3, reduction_factor=3, rule="promote", trials=7)

    def controller(record: StudyRecord) -> Controller:
        return Controller(
            record,
            plan,
            suggest=lambda trial: suggest(trial, TASK),
            sampler=samplers(sampler, 0),
            baselines=transfer.first,
        )

    path = tmp_path / "later.db"
    new_database(path)
    search = controller(begun(transfer, path))
    assert (search.imported, search.epochs, search.outcomes["pruned"], search.best()) == (9, 0, 0, None)
    work = search.next_work()
    assert work is not None
    assert work.trial == 9
    assert search.record.trial(9).params == transfer.first["earlier/8"]
    assert not search.report(work.trial, {"epoch": 1}, 0.5)
    search.record.close()
    again = controller(StudyRecord.reopen(sqlite_url(path)))
    assert (again.imported, again.epochs, again.asked) == (9, 1, 10)
    while not again.finished:
        work = again.next_work()
        assert work is not None
        epoch = work.known_epochs + 1
        while again.report(work.trial, {"epoch": epoch}, work.trial / 100):
            epoch += 1
    again.finish()
    table = trials_table(again.record.study)
    assert sorted(table["trial"]) == list(range(9, 16)), "seven of its own"
    again.record.close()
