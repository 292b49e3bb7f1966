"""The copy of a run in an object store: up to date, consistent, and nobody's but the last driver's."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from search import mirror
from search.database import sqlite_url
from search.mirror import Mirror, put_back, save_record, saved_records
from search.results import RunFolder
from search.study import StudyRecord
from trainables import checkpoint
from trainables.remote import RemotePlace
from trainables.storage import StorageError, TakenOverError


@pytest.fixture
def folder(bucket: str, tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "work" / "first", f"{bucket}/runs/first")
    folder.path.mkdir(parents=True)
    folder.write_json("settings.json", {"drivers": ["a"]})
    return folder


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for what would come anyway."""
    for name, seconds in {"SAVE_SECONDS": 0.2, "LEAST_PAUSE": 0.05, "SHORT_PATIENCE": 0.5}.items():
        monkeypatch.setattr(mirror, name, seconds)


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
def begun(folder: RunFolder, lines: list[str]):
    one = Mirror(folder, lines.append)
    one.begin()
    yield one
    one._leave.set()  # where a test has not closed it


def until(condition: Callable[[], object]) -> None:
    for _ in range(2400):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it never came")


def store(folder: RunFolder) -> RemotePlace:
    return RemotePlace(folder.address)


def test_what_is_written_changed_and_deleted_is_so_in_the_store(folder, begun, lines):
    assert store(folder).tree() == ["settings.json"]
    folder.write("best.md", "one")
    (folder.path / "best").mkdir()
    (folder.path / "best" / "model.safetensors").write_bytes(b"model")
    (folder.path / "half.tmp").write_bytes(b"half of it")
    until(lambda: len(store(folder).tree()) == 3)
    folder.write("best.md", "another")
    until(lambda: store(folder).read("best.md") == b"another")
    (folder.path / "best.md").unlink()
    begun.close()
    assert sorted(store(folder).tree()) == ["best/model.safetensors", "settings.json"]
    assert lines == []


def test_run_on_a_disk_is_mirrored_nowhere(tmp_path, lines):
    one = Mirror(RunFolder(tmp_path), lines.append)
    one.begin()
    checkpoint.save(tmp_path / "trials", 0, {"identity": "mine"})
    one.drop(tmp_path / "trials")
    one.check()
    one.close()
    assert [path.name for path in tmp_path.rglob("*")] == ["trials"]
    with put_back(RunFolder(tmp_path)):
        (tmp_path / "report.html").touch()


def test_record_in_the_store_is_whole_while_it_is_written(folder, tmp_path, new_trial):
    record = StudyRecord("first", "maximize", sqlite_url(folder.database))
    counts, stop = [], threading.Event()

    def write() -> None:
        while not stop.is_set():
            new_trial(record, {"lr": 0.5}, {1: 0.5}, "complete")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(5):
            save_record(folder)
            copy = tmp_path / f"{number}.db"
            copy.write_bytes(store(folder).read("study.db"))
            with sqlite3.connect(copy) as database:
                assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
                counts.append(database.execute("SELECT count(*) FROM trials").fetchone()[0])
    finally:
        stop.set()
        writer.join()
        record.close()
    assert counts == sorted(counts)
    assert counts[-1] > counts[0]


def test_this_machine_knows_what_it_saved_last(folder):
    assert saved_records(folder) == []
    record = StudyRecord("first", "maximize", sqlite_url(folder.database))
    for number in range(3):
        record.set_attributes({"number": number})
        save_record(folder)
    record.close()
    there = mirror.hashlib.sha256(store(folder).read("study.db")).hexdigest()
    assert saved_records(folder) == [there]
    assert store(folder).names() == ["study.db"]


def test_this_machine_knows_what_it_saved_before_two_tries_that_failed(folder, monkeypatch):
    record = StudyRecord("first", "maximize", sqlite_url(folder.database))
    save_record(folder)

    def fails(*_: object) -> None:
        raise StorageError("away")

    with monkeypatch.context() as patch:
        patch.setattr(RemotePlace, "write", fails)
        for number in range(2):
            record.set_attributes({"number": number})
            with pytest.raises(StorageError):
                save_record(folder)
    record.close()
    assert mirror.hashlib.sha256(store(folder).read("study.db")).hexdigest() in saved_records(folder)


def test_what_belongs_to_the_database_on_this_machine_stays_there(folder, begun):
    for name in ("study.db-journal", "study.db-wal", "study.db.new", "study.db.new-journal"):
        (folder.path / name).touch()
    begun.close()
    assert store(folder).names() == ["settings.json"]


def test_store_that_fails_is_said_once_and_caught_up_with(folder, proxy, lines):
    one = Mirror(folder, lines.append)
    one.begin()
    proxy.down = True
    folder.write("best.md", "new")
    until(lambda: lines)
    time.sleep(2)
    assert len(lines) == 1
    assert "the search goes on, and what is new is kept in" in lines[0]
    one.check()
    proxy.down = False
    until(lambda: len(lines) == 2)
    assert lines[1] == f"{folder.address} is up to date again"
    one.close()
    assert store(folder).read("best.md") == b"new"


def test_store_that_fails_to_the_end_is_an_error_that_names_what_this_machine_has(
    folder, proxy, lines, monkeypatch
):
    monkeypatch.setattr(mirror, "PATIENCE_SECONDS", 1.0)
    one = Mirror(folder, lines.append)
    one.begin()
    proxy.down = True
    folder.write("best.md", "new")
    with pytest.raises(StorageError, match=f"this machine has everything in {folder.path}"):
        one.close()


@pytest.mark.parametrize("drivers", [["a", "b"], ["b"]], ids=["later", "at the same time"])
def test_driver_that_was_taken_for_dead_writes_and_deletes_no_more(folder, begun, drivers):
    begun.check()
    trial = RemotePlace(folder.address) / "trials" / "00000"
    checkpoint.save(trial, 1000, {"identity": "theirs"})
    store(folder).write("settings.json", json.dumps({"drivers": drivers}).encode())
    begun.drop(trial)

    def stopped() -> bool:
        begun.trial_ended()
        try:
            begun.check()
        except StorageError as error:
            return "another driver goes on" in str(error)
        return False

    until(stopped)
    folder.write("best.md", "mine")
    with pytest.raises(TakenOverError, match="another driver goes on"):
        begun.close()
    assert sorted(store(folder).tree()) == ["settings.json", "trials/00000/checkpoint-1000.pt"]


def test_driver_that_finds_another_at_work_does_not_begin(folder, lines):
    store(folder).write("settings.json", json.dumps({"drivers": ["b"]}).encode())
    with pytest.raises(StorageError, match="another driver goes on"):
        Mirror(folder, lines.append).begin()
    assert json.loads(store(folder).read("settings.json")) == {"drivers": ["b"]}


def test_disk_that_fails_is_said_and_tried_again(folder, begun, lines, monkeypatch):
    copied = mirror.put_changes

    def full(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(mirror, "put_changes", full)
    until(lambda: lines)
    assert "No space left on device; the search goes on" in lines[0]
    monkeypatch.setattr(mirror, "put_changes", copied)
    folder.write("best.md", "new")
    until(lambda: "best.md" in store(folder).names())


def test_checkpoints_of_a_trial_go_after_the_record_of_its_end(folder, begun, monkeypatch):
    """One that ends while the record is copied keeps them until the next copy."""
    trial = RemotePlace(folder.address) / "trials" / "00000"
    checkpoint.save(trial, 0, {"identity": "mine"})
    order: list[str] = []
    monkeypatch.setattr(mirror, "put_changes", lambda *_: order.append("copy") or begun_drop() or {})
    monkeypatch.setattr(checkpoint, "remove", lambda place: order.append("drop"))

    def begun_drop() -> None:
        if len(order) == 1:
            begun.drop(trial)

    begun.trial_ended()
    until(lambda: "drop" in order)
    before = order[: order.index("drop")]
    assert len(before) >= 2
    assert set(before) == {"copy"}


def test_checkpoints_are_deleted_when_there_is_time(folder, begun):
    places = [RemotePlace(folder.address) / "trials" / f"{number:05d}" for number in range(3)]
    for place in places:
        checkpoint.save(place, 0, {"identity": "mine"})
    for place in places[:2]:
        begun.drop(place)
    begun.close()
    assert [place.names() for place in places] == [[], [], ["checkpoint-000.pt"]]
