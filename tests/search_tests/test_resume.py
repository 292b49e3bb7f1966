"""What a resume refuses before anything runs, and one driver at a time."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from search.copies import to_resume
from search.database import sqlite_url
from search.preflight import check_request, prepare
from search.results import RunFolder, has_begun
from search.resume import DriverLock, check_changes, hashes, saved_settings
from search.run import _changes, main
from search.settings import Settings, UsageError
from search.study import BEGUN, StudyRecord
from trainables.storage import TakenOverError


def saved_run(path: Path, settings: Settings, **document: object) -> RunFolder:
    folder = RunFolder(path)
    path.mkdir()
    folder.write_json(
        "settings.json",
        {
            "settings": settings.to_json(),
            "dataset": "digits",
            "note": "",
            "task": {},
            "hashes": {},
            **document,
        },
    )
    return folder


def test_saved_settings_come_back_with_the_data_set_that_was_found(tmp_path: Path) -> None:
    asked = Settings(trials=7, max_epochs=3, name="first", storage=Path("elsewhere"), dataset="auto")
    folder = saved_run(tmp_path / "moved", asked)
    assert saved_settings(folder) == replace(asked, dataset="digits", name="moved", storage=tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"editor.fontSize": 12}', "settings.json is not that of a run: give the folder of a run"),
        (b"[1, 2]", "settings.json is not that of a run"),
        (b"{", "settings.json cannot be read: "),
        (b'{"name": "\xff"}', "settings.json cannot be read: "),
    ],
)
def test_settings_of_something_else_are_no_run(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "settings.json").write_bytes(content)
    with pytest.raises(UsageError) as caught:
        saved_settings(RunFolder(tmp_path))
    assert message in str(caught.value)


def test_a_run_of_a_cluster_goes_on_on_this_machine_unless_another_place_is_asked_for(tmp_path: Path) -> None:
    cluster = Settings(address="auto", wait_for="8gpu", wait_timeout="2h", head_trains=True)
    folder = saved_run(tmp_path / "first", cluster)
    assert saved_settings(folder) == Settings(dataset="digits", name="first", storage=tmp_path)
    assert _changes(folder, ["--address", "auto"]) == {"address": "auto"}


def test_a_run_is_found_from_within_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved_run(tmp_path / "first", Settings())
    monkeypatch.chdir(tmp_path / "first")
    assert saved_settings(to_resume(".")).name == "first"


def test_a_driver_that_was_taken_for_dead_notices_after_its_successor_has_left(tmp_path: Path) -> None:
    folder = saved_run(tmp_path / "first", Settings(), drivers=["a"])
    lock = DriverLock(folder)
    lock.take()
    lock.drivers = folder.drivers
    lock.beat()
    folder.write_json("settings.json", {"drivers": ["a", "b"]})
    (tmp_path / "first" / "driver.json").unlink()
    lock._beat -= 60
    with pytest.raises(TakenOverError, match="another driver went on"):
        lock.beat()
    assert not (tmp_path / "first" / "driver.json").exists()


def test_a_driver_lets_go_of_its_own_lock_alone(tmp_path: Path) -> None:
    folder = saved_run(tmp_path / "first", Settings())
    lock = DriverLock(folder)
    lock.take()
    theirs = {"host": "elsewhere", "pid": 1, "started": "", "time": time.time()}
    folder.write_json("driver.json", theirs)
    lock.release()
    assert json.loads(lock.path.read_text()) == theirs


def test_budgets_resources_and_output_may_change() -> None:
    saved = Settings()
    check_changes(saved, replace(saved, trials=200, time_budget="2h", max_concurrent=1, quiet=True))


@pytest.mark.parametrize(
    ("changes", "option"),
    [({"max_epochs": 50}, "--max-epochs"), ({"seed": 1}, "--seed"), ({"metric": "loss"}, "--metric")],
)
def test_what_makes_scores_incomparable_may_not_change(changes: dict[str, Any], option: str) -> None:
    saved = Settings()
    with pytest.raises(UsageError, match=option):
        check_changes(saved, replace(saved, **changes))


@pytest.mark.parametrize("make", [False, True])
def test_a_folder_that_is_no_run_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], make: bool
) -> None:
    folder = tmp_path / "nothing"
    if make:
        folder.mkdir()
    assert main(["--resume", str(folder)]) == 2
    error = capsys.readouterr().err
    assert "--resume: there is no run in" in error
    assert error.count("\n") == 1


def test_a_change_on_the_command_line_is_refused_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = saved_run(tmp_path / "run", Settings(trials=3, max_epochs=3))
    assert main(["--resume", str(folder.path), "--max-epochs", "5"]) == 2
    assert "--max-epochs from 3 to 5" in capsys.readouterr().err


@pytest.fixture(scope="module")
def current_hashes() -> dict[str, str]:
    prepared = prepare(check_request(Settings(dataset="digits", trials=1, max_epochs=1, device="cpu")))
    return hashes(prepared.space.module, prepared.dataset)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"data": "other"}, "the data set digits"),
        ({"space": "other"}, "the space cnn"),
        ({"code": "other"}, "the training code"),
        ({"weights": "other"}, "the weights imagenet"),
    ],
)
def test_changed_data_space_or_code_is_refused(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    without_ray: None,
    current_hashes: dict[str, str],
    changes: dict[str, str],
    named: str,
) -> None:
    settings = Settings(dataset="digits", trials=1, max_epochs=1, device="cpu", name="run", storage=tmp_path)
    folder = saved_run(tmp_path / "run", settings, hashes={**current_hashes, **changes})
    assert main(["--resume", str(folder.path)]) == 2
    error = capsys.readouterr().err
    assert f"{named} changed" in error
    assert error.count(" changed ") == 1


def test_a_second_driver_is_refused_naming_the_first(tmp_path: Path) -> None:
    first = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        holder = {"host": platform.node(), "pid": first.pid, "time": time.time()}
        (tmp_path / "driver.json").write_text(json.dumps(holder))
        with pytest.raises(UsageError, match=f"process {first.pid} on {platform.node()}"):
            DriverLock(RunFolder(tmp_path)).take()
    finally:
        first.kill()
        first.communicate()
    DriverLock(RunFolder(tmp_path)).take()
    assert json.loads((tmp_path / "driver.json").read_text())["pid"] == os.getpid()


def test_a_driver_of_this_host_that_was_suspended_still_holds_its_run(tmp_path: Path) -> None:
    first = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        holder = {"host": platform.node(), "pid": first.pid, "time": time.time() - 3600}
        (tmp_path / "driver.json").write_text(json.dumps(holder))
        with pytest.raises(UsageError, match=f"process {first.pid}"):
            DriverLock(RunFolder(tmp_path)).take()
        # a process of the same number that began at another time is another one
        (tmp_path / "driver.json").write_text(json.dumps(holder | {"started": "1"}))
        DriverLock(RunFolder(tmp_path)).take()
    finally:
        first.kill()
        first.communicate()


@pytest.mark.parametrize(("age", "refused"), [(5, True), (61, False)])
def test_a_driver_on_another_host_is_believed_for_a_minute(tmp_path: Path, age: float, refused: bool) -> None:
    (tmp_path / "driver.json").write_text(
        json.dumps({"host": "another", "pid": 1, "time": time.time() - age})
    )
    lock = DriverLock(RunFolder(tmp_path))
    if refused:
        with pytest.raises(UsageError, match="another"):
            lock.take()
    else:
        lock.take()


def test_a_lock_that_is_let_go_is_gone(tmp_path: Path) -> None:
    lock = DriverLock(RunFolder(tmp_path))
    lock.take()
    lock.release()
    assert list(tmp_path.iterdir()) == []


def test_a_settings_file_counts_when_a_search_goes_on(tmp_path: Path) -> None:
    folder = saved_run(tmp_path / "run", Settings(dataset="digits", trials=5))
    (tmp_path / "more.yaml").write_text("trials: 200\nmax_epochs: 7\n")
    words = ["--config", str(tmp_path / "more.yaml")]
    assert _changes(folder, words) == {"trials": 200, "max_epochs": 7}
    assert _changes(folder, [*words, "--trials", "300"])["trials"] == 300


@pytest.mark.parametrize("attributes", [None, {}, {BEGUN: True}])
def test_a_run_whose_trials_trained_does_not_go_on_without_its_record(
    tmp_path: Path, attributes: dict[str, bool] | None
) -> None:
    settings = Settings(dataset="digits", device="cpu", name="run", storage=tmp_path)
    folder = saved_run(tmp_path / "run", settings)
    if attributes is not None:
        record = StudyRecord("run", "maximize", sqlite_url(folder.database))
        record.set_attributes(attributes)
        record.close()
    assert has_begun(folder, "auto") == bool(attributes)
    check_request(settings, resume=True)  # killed while its record was made: it begins now
    folder.trial(0).mkdir(parents=True)
    if attributes:
        check_request(settings, resume=True)
    else:
        with pytest.raises(UsageError, match=r"the record of .*run is not in .*study\.db"):
            check_request(settings, resume=True)


def test_space_of_all_families_changes_with_each_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    import spaces.all
    from search import resume

    names = [module.__name__ for module in resume._of_space(spaces.all)]
    assert names[0] == "spaces.all"
    assert {"spaces.cnn", "spaces.resnet18", "spaces.fine_tuning", "spaces.choices"} < set(names)
    data = SimpleNamespace(fingerprint="data")
    before = hashes("spaces.all", data)
    source = resume.inspect.getsource
    monkeypatch.setattr(
        resume.inspect,
        "getsource",
        lambda module: source(module) + "#" * (module.__name__ == "spaces.choices"),
    )
    assert hashes("spaces.all", data)["space"] != before["space"]
