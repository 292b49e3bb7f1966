"""A search that was killed between two writes goes on from what was written."""

import contextlib
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
import sqlalchemy
from test_controller import RULES, Workers, make, outcomes, row, suggest

from search.controller import Controller, Rule
from search.database import sqlite_url
from search.kept import CheckpointKeeper
from search.results import RunFolder
from search.study import StudyRecord


def reopened(path: Path, rule: Rule, **options: Any) -> Controller:
    return make(rule, record=StudyRecord.reopen(sqlite_url(path)), **options)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "study.db"


@pytest.fixture
def record(path: Path) -> StudyRecord:
    return StudyRecord("test", "maximize", sqlite_url(path))


def test_a_search_killed_before_its_last_trials_were_pruned_is_finished_by_its_resume(record, path) -> None:
    Workers(make("promote", record=record), slots=2).run()
    record.close()  # the driver dies before `finish`
    again = reopened(path, "promote")
    assert again.finished
    waiting = set(again.live)
    assert set(again.finish()) == waiting != set()
    assert all(trial.state.is_finished() for trial in again.record.trials())


@pytest.mark.parametrize("rule", ["stop", "promote", "none"])
@pytest.mark.parametrize("epochs", [1, 2, 3])  # at a rung, between two, at the end
@pytest.mark.parametrize(
    ("score", "loss"), [(math.nan, 1.0), (0.5, math.nan), (math.inf, 1.0)], ids=["score", "loss", "infinite"]
)
def test_a_trial_that_diverged_and_was_cut_off_is_diverged_all_the_same(
    record, path, rule, epochs, score, loss
) -> None:
    options = {"trials": 1, "max_epochs": 3}
    controller = make(rule, record=record, **options)
    work = controller.next_work()
    for epoch in range(1, epochs):
        controller.report(work.trial, row(epoch), 0.5)
    # what is written last is the end of a trial: the driver dies before it
    controller._end = lambda *_: False
    controller.report(work.trial, row(epochs) | {"train_loss": loss}, score)
    record.close()
    again = reopened(path, rule, **options)
    assert outcomes(again) == {0: "diverged"}
    assert again.finished
    assert again.best() is None


def test_promotion_that_was_written_before_the_arrival_is_decided_again(record, path) -> None:
    controller = make("promote", record=record, trials=3)
    for _ in range(3):
        controller.report(controller.next_work().trial, row(1), 0.5)
    record.note(0, {"gone_on": [1, 3]})  # of rung 3 nothing else was written
    record.close()
    Workers(again := reopened(path, "promote", trials=3), slots=1).run()
    again.finish()
    assert all(trial.state.is_finished() for trial in again.record.trials())


class DriverDiedError(Exception):
    """In place of SIGKILL."""


@pytest.mark.parametrize("rule", ["stop", "promote"])
@pytest.mark.parametrize("writes", range(0, 100, 9))
def test_a_search_killed_at_any_write_goes_on_with_whole_reports(record, path, rule, writes) -> None:
    left = iter(range(writes))

    def one(*_: Any) -> None:
        if next(left, None) is None:
            raise DriverDiedError

    def statement(connection: Any, cursor: Any, text: str, *_: Any) -> None:
        if text.startswith(("INSERT", "UPDATE")):
            one()

    sqlalchemy.event.listen(record._disk.storage.engine, "before_cursor_execute", statement)
    sqlalchemy.event.listen(record._disk.storage.engine, "commit", one)
    workers = Workers(make(rule, record=record), slots=3)
    with contextlib.suppress(DriverDiedError):
        while workers.step():
            if len(workers.trained) % 4 == 0:
                record.flush(force=True)
    record._disk.storage.engine.dispose()
    again = reopened(path, rule)
    Workers(again, slots=3, seed=1).run()
    again.finish()
    assert len(again.record.trials()) == 9
    for trial in again.record.trials():
        epochs = list(trial.intermediate_values)
        assert trial.state.is_finished()
        assert epochs == list(range(1, len(epochs) + 1))
        assert [row["epoch"] for row in trial.user_attrs["epochs"]] == epochs
        assert trial.user_attrs["seconds"] == len(epochs)


def test_notes_reach_the_disk_in_the_order_they_were_made(record) -> None:
    number, _ = record.ask(optuna.samplers.RandomSampler(), lambda trial: trial.suggest_float("x", 0, 1))
    record.begin(number, {})
    written = []

    def statement(connection: Any, cursor: Any, text: str, rows: Any, *_: Any) -> None:
        if text.startswith("INSERT INTO trial_user_attributes"):
            written.extend(tuple(row[1:3]) for row in rows)

    sqlalchemy.event.listen(record._disk.storage.engine, "before_cursor_execute", statement)
    record.note(number, {"gone_on": [1]})
    record.note(number, {"arrivals": 2})
    record.note(number, {"gone_on": [1, 3]})
    record.flush(force=True)
    assert written == [("arrivals", "2"), ("gone_on", "[1, 3]")]


def ended(record: StudyRecord, scores: list[float]) -> Controller:
    """A search whose trials were all trained to the end."""
    controller = make("none", record=record, trials=len(scores), max_epochs=1)
    for score in scores:
        controller.report(controller.next_work().trial, row(1), score)
    return controller


def test_checkpoints_that_a_killed_driver_left_are_removed_but_those_of_the_best(tmp_path, record) -> None:
    folder = RunFolder(tmp_path)
    controller = ended(record, [0.1, 0.5, 0.2, 0.4, 0.3])
    for number in range(5):
        folder.trial(number).mkdir(parents=True)
        (folder.trial(number) / "checkpoint-000.pt").touch()
        (folder.trial(number) / "events").touch()
    assert CheckpointKeeper(folder, controller).kept == [1, 3, 4]
    left = {int(file.parent.name) for file in tmp_path.glob("trials/*/checkpoint-*")}
    assert left == {1, 3, 4}
    assert len(list(tmp_path.glob("trials/*/events"))) == 5


def test_checkpoints_of_trials_that_the_record_does_not_know_are_left_alone(tmp_path, record) -> None:
    folder = RunFolder(tmp_path)
    controller = ended(record, [0.1, 0.5])
    folder.trial(2).mkdir(parents=True)
    (folder.trial(2) / "checkpoint-000.pt").touch()  # a record on S3 may lag; the number is given out again
    CheckpointKeeper(folder, controller)
    assert (folder.trial(2) / "checkpoint-000.pt").exists()


def test_workers_that_a_trial_brought_down_are_counted_over_all_sittings(record, path) -> None:
    controller = make("none", record=record, trials=1)
    for _ in range(2):
        controller.next_work()
        controller.ended(0, lost="killed")
    record.close()
    again = reopened(path, "none", trials=1)
    again.next_work()
    again.ended(0, lost="killed")
    assert outcomes(again) == {0: "failed"}


def test_trials_that_wait_far_down_a_rung_keep_no_checkpoints(tmp_path, record) -> None:
    folder = RunFolder(tmp_path)
    controller = make("promote", record=record, trials=None, max_epochs=9)
    for _ in range(200):
        work = controller.next_work()
        if not folder.trial(work.trial).exists():
            folder.trial(work.trial).mkdir(parents=True)
        (folder.trial(work.trial) / "checkpoint-000.pt").touch()
        epoch = work.known_epochs + 1
        while controller.report(work.trial, row(epoch), 1 / (work.trial + 1)):  # the first are the best
            epoch += 1
    dropped: list[Path] = []
    keeper = CheckpointKeeper(folder, controller, drop=dropped.append)
    dropped.clear()  # of trials that have ended
    keeper.out_of_reach()
    rung = controller.ladder.rungs[0]
    reach = 2 * len(rung.scores) // 3 + 20
    worst = sorted(rung.scores)[reach:]
    assert worst
    assert sorted(dropped) == [folder.trial(number) for number in worst]
    keeper.out_of_reach()
    assert len(dropped) == len(worst), "once is enough"
    assert controller.ladder.promotion() is None or controller.ladder.promotion()[1] not in worst


def test_what_leads_is_the_beginning_of_the_ranking(record) -> None:
    controller = ended(record, [0.1, 0.5, 0.2, 0.5, 0.3])
    assert controller.leading(3) == controller.ranking()[:3] == [1, 3, 4]


def rare(trial: optuna.Trial) -> dict[str, float]:
    if (x := trial.suggest_float("x", 0, 1)) < 0.5:
        raise KeyError("no such layer")
    return {"x": x}


def test_a_configuration_for_which_the_space_fails_is_infeasible_and_says_why(record, path) -> None:
    controller = make("stop", record=record, trials=4, max_epochs=1, suggest=rare)
    Workers(controller, slots=1).run()
    failed = [trial for trial in controller.record.trials() if trial.params["x"] < 0.5]
    assert failed
    assert {trial.user_attrs["outcome"] for trial in failed} == {"infeasible"}
    assert "KeyError('no such layer')" in failed[0].user_attrs["error"]
    assert controller.outcomes["complete"] == 4


def test_a_network_that_cannot_be_built_is_infeasible_and_says_why() -> None:
    def limit(config: dict[str, float]) -> tuple[None, dict[str, float]]:
        return None, {"odd": 1 / (config["x"] > 0.5)}

    controller = make("stop", trials=4, max_epochs=1, limit=limit)
    Workers(controller, slots=1).run()
    broken = [t for t in controller.record.trials() if t.user_attrs["outcome"] == "infeasible"]
    assert "the network cannot be built: ZeroDivisionError" in broken[0].user_attrs["error"]


def test_a_sampler_that_ends_studies_itself_does_not_end_the_search(record) -> None:
    grid = optuna.samplers.GridSampler({"x": [0.25, 0.75], "family": ["a"]}, seed=0)
    controller = make("stop", record=record, trials=3, max_epochs=1)
    controller._new_trials._sampler = lambda number: grid
    Workers(controller, slots=1).run()
    assert SimpleNamespace(**controller.outcomes).complete == 3


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("cut", [0, 1, 5, 11, 17, 100])
def test_a_search_cut_at_any_moment_goes_on_without_loss_or_repetition(
    tmp_path: Path, rule: Rule, cut: int
) -> None:
    path = tmp_path / "study.db"
    record = StudyRecord("test", "maximize", sqlite_url(path))
    workers = Workers(make(rule, record=record), slots=3)
    for _ in range(cut):
        workers.step()
    record.close()  # the driver dies here, everything committed

    controller = reopened(path, rule)
    again = Workers(controller, slots=3, seed=1)
    again.run()
    controller.finish()
    assert len(set(workers.trained + again.trained)) == len(workers.trained + again.trained)
    assert len(controller.record.trials()) == 9
    assert all(trial.state.is_finished() for trial in controller.record.trials())
    for trial in controller.record.trials():
        assert list(trial.intermediate_values) == list(range(1, len(trial.intermediate_values) + 1))


@pytest.mark.parametrize("rule", RULES)
def test_a_reopened_search_decides_as_the_one_that_was_not_cut(tmp_path: Path, rule: Rule) -> None:
    """With one slot the order of events is given, so the whole search must come out the same."""
    bounds = {"trials": 6, "max_epochs": 4}
    whole = make(rule, **bounds)
    Workers(whole, slots=1).run()
    whole.finish()

    path = tmp_path / "study.db"
    StudyRecord("test", "maximize", sqlite_url(path)).close()
    while True:  # a new driver for every epoch
        controller = reopened(path, rule, **bounds)
        worker = Workers(controller, slots=1)
        went_on = worker.step()
        controller.record.flush(force=True)
        if not went_on:
            break
        controller.record.close()
    controller.finish()
    assert outcomes(controller) == outcomes(whole)
    for mine, other in zip(controller.record.trials(), whole.record.trials(), strict=True):
        assert mine.params == other.params
        assert mine.intermediate_values == other.intermediate_values


def test_a_finished_search_resumes_to_nothing(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    record = StudyRecord("test", "maximize", sqlite_url(path))
    controller = make("promote", record=record)
    Workers(controller, slots=2).run()
    controller.finish()
    record.close()
    assert reopened(path, "promote").finished
    more = reopened(path, "promote", trials=12)
    assert not more.finished
    work = more.next_work()
    assert work is not None
    assert work.trial == 9, "trials pruned for good stay so; new ones come"


def test_an_outcome_without_its_state_is_decided_again(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    record = StudyRecord("test", "maximize", sqlite_url(path))
    controller = make("promote", record=record, trials=1)
    assert controller.next_work() is not None
    controller.report(0, row(1), 0.5)
    record.note(0, {"outcome": "pruned"})  # the driver dies before the state is written
    record.close()
    again = reopened(path, "promote", trials=1)
    assert sum(again.outcomes.values()) == 0
    work = again.next_work()
    assert work is not None
    assert work.trial == 0


def test_a_network_over_the_limit_is_not_trained_because_a_crash_came_before_its_end(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path / "study.db")
    record = StudyRecord("test", "maximize", url)
    asked, _ = record.ask(optuna.samplers.RandomSampler(seed=0), suggest)
    record.begin(asked, {})  # killed here
    record.close()
    again = make("stop", record=StudyRecord.reopen(url), limit=lambda config: ("too large", {}))
    assert again.outcomes["infeasible"] == 1
    assert again.record.trial(asked).user_attrs["error"] == "too large"
    again.record.close()
