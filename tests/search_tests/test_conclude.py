import io
import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
from rich.console import Console

from search.conclude import announce, conclude
from search.database import sqlite_url
from search.results import Results, RunFolder
from search.settings import Settings
from search.slots import Slots
from search.study import StudyRecord
from search.transfer import Transfer
from trainables.config import Task

COMMAND = "uv run python -m search.run --space=cnn --trials=3 --storage=/data/[a]/" + "x" * 90


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=100)


def shown(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def ended(folder: RunFolder, settings: Settings, console: Console) -> str:
    folder.settings.write_text(json.dumps({"command": COMMAND}))
    conclude(Results(folder.path), settings, console)
    return shown(console)


def test_end_shows_the_best_where_they_are_and_how_to_repeat(run_folder, console):
    lines = ended(run_folder, Settings(name="mine"), console).splitlines()
    text = "\n".join(lines)
    assert "mine: space cnn on digits" in text
    assert "digits, not CIFAR-10: no network" in text
    assert "best configuration: trial 1" in text
    rows = [[cell.strip() for cell in line.strip("│┃").split("│")] for line in lines if "complete" in line]
    assert rows == [["1", "1", "", "complete", "90.00 %", "3", "-", "12"]]
    assert any("width" in line and "9" in line for line in lines)
    assert "ended early: running" in text
    assert lines[-2:] == [f"everything is in  {run_folder.path}", f"repeat with       {COMMAND}"]
    assert f"go on with        uv run python -m search.run --resume {run_folder.path}" in lines
    assert all(len(line) <= 100 for line in lines if not line.startswith(("go on", "everything", "repeat")))


def test_top_limits_the_table(run_folder, console):
    text = ended(run_folder, Settings(top=1), console)
    assert "complete" in text
    assert "pruned" not in text


@pytest.mark.parametrize("error", ["Traceback:\n  File\nValueError: [red] too large\n", "", " \n"])
def test_end_without_a_score_says_why(tmp_path, new_trial, new_database, console, error):
    folder = RunFolder(tmp_path)
    new_database(folder.database)
    record = StudyRecord("mine", "maximize", sqlite_url(folder.database))
    new_trial(record, {"lr": 0.5}, {}, "failed", error=error)
    record.set_attributes({"stopped": "finished"})
    record.close()
    text = ended(folder, Settings(), console)
    assert "no trial has a score" in text
    assert ("the last error: ValueError: [red] too large" in text) == ("ValueError" in error)
    assert "best configuration" not in text
    assert "ended early" not in text
    assert "go on with" not in text


def prepared(**changes) -> SimpleNamespace:
    part, task = [0] * 1234, Task(image_size=32, classes=10, train_images=1234, max_epochs=9)
    return SimpleNamespace(
        **{
            "settings": Settings(trials=16, asha="stop", max_macs=1000),
            "space": SimpleNamespace(name="cnn", architectures=()),
            "dataset": SimpleNamespace(name="/data/[bold]pets", note="", train=part, val=part[:100]),
            "task": task,
            "slots": Slots(4, 2, 0.5),
            "folder": RunFolder(Settings().storage / "mine"),
            "skipped": {},
            "transfer": Transfer(),
            **changes,
        }
    )


def test_start_says_what_will_be_searched(console):
    announce(prepared(), console)
    assert shown(console).splitlines() == [
        "data    /data/[bold]pets: 1,234 training and 100 validation images, 10 classes, 32 px",
        "search  space cnn, 16 trials of at most 9 epochs, sampler multifidelity, asha stop",
        "slots   4 at once, each 2 CPU and 0.5 GPU",
        "run     results/mine",
        "limit   1,000 multiply-adds an image (--max-macs)",
        "finish  the best 3 are trained again with 3 new seeds, the winner of them on all images"
        " (--no-confirm)",
    ]


def test_start_counts_to_one(console):
    task = replace(prepared().task, max_epochs=1)
    announce(prepared(settings=Settings(trials=1, confirm_top=1, confirm_seeds=1), task=task), console)
    lines = shown(console).splitlines()
    assert lines[1].startswith("search  space cnn, 1 trial of at most 1 epoch, sampler")
    assert lines[-1] == "finish  the best is trained again with 1 new seed, and on all images (--no-confirm)"


def test_start_says_that_a_budget_limits_the_trials(console):
    announce(prepared(settings=Settings(trials="auto", time_budget="2h")), console)
    assert shown(console).splitlines()[1] == (
        "search  space cnn, trials of at most 9 epochs, as many as the budget allows,"
        " sampler multifidelity, asha promote"
    )


def test_start_names_the_stand_in_and_what_is_left_out(console):
    note = "digits, not CIFAR-10: https://example.org/[file] could not be downloaded " + "x" * 60
    data = SimpleNamespace(name="digits", note=note, train=[0], val=[0])
    announce(prepared(dataset=data, skipped={"deep": "too small [for it]"}), console)
    lines = shown(console).splitlines()
    assert lines[0] == f"Note: {note}"
    assert lines[-1] == "baseline deep is left out: too small [for it]"
