import json
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from search.command_line import parse
from search.database import sqlite_url
from search.preflight import Prepared
from search.results import Results, RunFolder, free_bytes, make_folder, nearest_existing
from search.settings import Settings, UsageError
from search.slots import Slots
from search.study import StudyRecord
from spaces import Space
from trainables.config import ModelConfig, OptimizerConfig, Task, TrialConfig, to_json
from trainables.data import Dataset, Part


@pytest.fixture
def prepared(tmp_path):
    part = Part(images=np.zeros((4, 8, 8, 3), np.uint8), labels=np.zeros(4, np.int64))
    return Prepared(
        settings=Settings(trials=3, storage=tmp_path / "results", name="mine", dataset="digits"),
        space=Space(name="cnn", module="spaces.cnn", suggest=lambda *_: None, baselines={}),
        baselines={},
        skipped={},
        dataset=Dataset(
            name="digits",
            note="digits, not CIFAR-10",
            class_names=("0", "1"),
            train=part,
            val=part,
            mean=(0.5,) * 3,
            std=(0.25,) * 3,
            fingerprint="0" * 16,
        ),
        task=Task(image_size=8, classes=2, train_images=4, max_epochs=3),
        slots=Slots(1, 1, 0),
        folder=RunFolder(tmp_path / "results" / "mine"),
    )


def test_settings_are_written_with_data_versions_and_command(prepared):
    make_folder(prepared, {"data": "0" * 16})
    document = json.loads(prepared.folder.settings.read_text())
    assert document["settings"] == prepared.settings.to_json()
    assert (document["dataset"], document["note"]) == ("digits", "digits, not CIFAR-10")
    assert document["task"]["train_images"] == 4
    assert document["hashes"] == {"data": "0" * 16}
    assert {"python", "torch", "ray", "optuna", "numpy"} == document["versions"].keys()
    assert [path.name for path in prepared.folder.path.iterdir()] == ["settings.json"]


def test_command_repeats_the_search_under_a_new_name(prepared):
    make_folder(prepared, {"data": "0" * 16})
    command = json.loads(prepared.folder.settings.read_text())["command"].split()
    assert parse(command[5:], "prog") == Settings(
        trials=3, storage=prepared.settings.storage, dataset="digits"
    )


def test_existing_folder_is_refused_and_left_alone(prepared):
    prepared.folder.path.mkdir(parents=True)
    (prepared.folder.path / "kept").touch()
    with pytest.raises(UsageError, match=r"a run is there already: .*mine; choose another --name"):
        make_folder(prepared, {})
    assert [path.name for path in prepared.folder.path.iterdir()] == ["kept"]
    assert list(prepared.settings.storage.iterdir()) == [prepared.folder.path]


def test_folder_whose_settings_were_never_written_is_not_there(prepared, monkeypatch):
    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(RunFolder, "write_json", dies)
    with pytest.raises(KeyboardInterrupt):
        make_folder(prepared, {})
    assert not prepared.folder.path.exists()


def test_folder_that_cannot_be_made_is_refused(prepared):
    prepared.settings.storage.write_text("a file")
    with pytest.raises(UsageError, match="mine cannot be made: Not a directory"):
        make_folder(prepared, {})


def test_paths_of_a_run():
    folder = RunFolder(Path("r"))
    assert [folder.database, folder.settings, folder.best, folder.trial(17)] == [
        Path("r/study.db"),
        Path("r/settings.json"),
        Path("r/best"),
        Path("r/trials/00017"),
    ]


def test_file_is_written_whole_or_not_at_all(tmp_path):
    folder = RunFolder(tmp_path)
    folder.write("note.txt", "old")
    with pytest.raises(UnicodeEncodeError):
        folder.write("note.txt", "new \ud800")
    assert (tmp_path / "note.txt").read_text() == "old"


def test_results_of_a_run_of_another_day(run_folder):
    results = Results(str(run_folder.path))
    assert results.best == {
        "rank": 1,
        "trial": 1,
        "baseline": "",
        "outcome": "complete",
        "score": 0.9,
        "epochs": 3,
        "parameters": None,
        "seconds": 12.0,
        "config": {"lr": 0.25, "width": 9},
    }
    assert results.has_best
    assert results.stopped == "running"
    assert list(results.trials["trial"]) == [1, 0, 2]


@dataclass(frozen=True, kw_only=True)
class WidthConfig(ModelConfig):
    width: int

    def build(self, task: Task) -> Any:
        raise AssertionError("the configuration is read, not built")


def test_best_configuration_comes_back(tmp_path, new_trial, new_database):
    new_database(tmp_path / "study.db")
    record = StudyRecord("mine", "maximize", sqlite_url(tmp_path / "study.db"))
    configs = [
        TrialConfig(model=WidthConfig(width=w), optimizer=OptimizerConfig(name="sgd", learning_rate=0.1))
        for w in (8, 16)
    ]
    for config, score in zip(configs, (0.5, 0.75), strict=True):
        new_trial(record, {"lr": 0.5}, {1: score}, "pruned", config=to_json(config))
    record.close()
    assert Results(tmp_path).best_config == configs[1]


def test_a_run_from_elsewhere_names_no_file_of_ours_as_its_database(tmp_path):
    folder = RunFolder(tmp_path / "theirs")
    folder.path.mkdir()
    folder.write_json("settings.json", {"settings": {"study_storage": f"sqlite:///{tmp_path}/mine.db"}})
    with pytest.raises(ValueError, match="--study-storage must be auto or look like postgresql://"):
        Results(folder.path)
    assert [path.name for path in tmp_path.iterdir()] == ["theirs"]


def test_best_of_none_is_an_error_of_one_line(tmp_path, new_trial, new_database):
    new_database(tmp_path / "study.db")
    record = StudyRecord("mine", "maximize", sqlite_url(tmp_path / "study.db"))
    new_trial(record, {"lr": 0.5}, {1: 0.9}, "failed", "plain")
    record.set_attributes({"stopped": "failed"})
    record.close()
    results = Results(tmp_path)
    assert not results.has_best
    assert results.stopped == "failed"
    with pytest.raises(ValueError, match="has no trial with a score") as caught:
        _ = results.best
    assert "\n" not in str(caught.value)


def test_folder_without_a_database_is_refused_and_left_alone(tmp_path):
    with pytest.raises(ValueError, match=r"study\.db does not exist: give the folder of a run"):
        Results(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_nearest_existing_folder(tmp_path):
    assert nearest_existing(tmp_path / "a" / "b") == tmp_path
    (tmp_path / "link").symlink_to("nowhere")
    assert nearest_existing(tmp_path / "link" / "b") == tmp_path / "link"
    assert nearest_existing(Path("none")) == Path()


def test_free_space_is_that_of_the_disk_a_folder_will_be_on(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "shutil.disk_usage",
        lambda path: asked.append(path) or SimpleNamespace(free=7),
    )
    assert free_bytes(tmp_path / "a" / "b") == 7
    assert asked == [tmp_path]
